"""PowerSGD: a layer's matrix is sent as a product of two thin ones (arXiv 1905.13727)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ....core import Collective
from ....core.training.collective import add_up
from ..layer import Layer, as_matrix, matrix_shape
from ..metering import all_reduce_bytes
from .base import CollectiveName, Family, Parcel, Sent, halved

OVERSAMPLING = 8  # columns of a block beyond those that count, which bring them closer to the truth


class PowerSGD(Family):
    """One step of power iteration a message, from where the last one ended; both factors are added up.

    M is the (out, rest) view of a rank's gradient and residual, with the mean over ranks written M':
    P = orth(M' Q), Q' = M'^T P, and P Q'^T is the mean. What a rank leaves out is its own, M - P (M^T P)^T:
    were it measured against the mean instead, the ranks' residuals would drift apart.

    Args:
        half: whether P and Q travel in fp16, in units that keep them in its range.
        exact: tables of errors are exact for matrices whose smaller side is no longer; beyond, they
            come of power iteration on a block of the largest rank and a few columns more.
        iterations: of the latter.
        feedback: whether what is left out is added to the next gradient.
    """

    name: ClassVar[str] = "powersgd"
    parameter: ClassVar[str] = "rank"
    bounds: ClassVar[tuple[float, float]] = (0.5, 2.0)
    collective: ClassVar[CollectiveName] = "all_reduce"
    messages: ClassVar[int] = 2

    def __init__(
        self,
        *,
        half: bool = False,
        exact: int = 1024,
        iterations: int = 2,
        feedback: bool = True,
    ) -> None:
        self.half = half
        self.exact = exact
        self.iterations = iterations
        self.feedback = feedback

    def check(self, setting: float) -> None:
        if setting != int(setting) or setting < 1:
            raise ValueError(f"a rank is a whole number from 1 on, not {setting:g}")

    def clamp(self, shape: Sequence[int], setting: float) -> int:
        self.check(setting)
        return min(int(setting), *matrix_shape(shape))

    def settings(self, shape: Sequence[int], reference: float, low: float, high: float) -> tuple[int, ...]:
        lowest = max(1, math.floor(low * reference))
        highest = max(1, math.ceil(high * reference))
        ranks = {min(rank, *matrix_shape(shape)) for rank in range(lowest, highest + 1)}
        return tuple(sorted(ranks | {self.clamp(shape, reference)}))

    def wire_bytes(self, shape: Sequence[int], setting: float, ranks: int) -> float:
        entries = self.clamp(shape, setting) * sum(matrix_shape(shape))
        return all_reduce_bytes(entries * (2 if self.half else 4), ranks)

    def _errors(self, gradient: Tensor, settings: Sequence[float]) -> Tensor:
        """All ranks from one decomposition: squares of the singular values that a rank leaves out."""
        matrix = as_matrix(gradient).double()
        ranks = [self.clamp(gradient.shape, setting) for setting in settings]
        if min(matrix.shape) <= self.exact or max(ranks) == min(matrix.shape):
            left_out = _squared_singular_values(matrix).cumsum(0)  # element i - 1: of the i smallest
            return torch.nn.functional.pad(left_out, (1, 0))[[min(matrix.shape) - r for r in ranks]].sqrt()
        columns = min(max(ranks) + OVERSAMPLING, *matrix.shape)
        block = _normal(matrix.shape[1], columns, 0, matrix)
        for _ in range(self.iterations):
            block = matrix.T @ _orthonormal(matrix @ block)
        # Singular values of the last block are those of the matrix, as far as its span reaches.
        kept = _squared_singular_values(block).flip(0).cumsum(0)
        return (matrix.square().sum() - kept[[r - 1 for r in ranks]]).clamp(min=0).sqrt()

    def _exchange(
        self, parcels: Sequence[Parcel], inputs: Sequence[Tensor], group: Collective, seed: int
    ) -> list[Sent]:
        matrices = [as_matrix(each) for each in inputs]
        bases = [
            _start(one.layer, self.clamp(one.gradient.shape, one.setting), one.seed(seed), matrix)
            for one, matrix in zip(parcels, matrices, strict=True)
        ]
        units = self._units([one.layer for one in parcels], matrices, group)
        means, _ = self._average(group, [m @ q for m, q in zip(matrices, bases, strict=True)], units)
        units = [_positive(_norms(each).max()) for each in means]
        lefts = [_orthonormal(each) for each in means]
        rights = [m.T @ p for m, p in zip(matrices, lefts, strict=True)]
        means, owns = self._average(group, rights, units)
        return [
            Sent((p @ q.T).view(given.shape), (p @ own.T).view(given.shape), basis=q)
            for p, q, own, given in zip(lefts, means, owns, inputs, strict=True)
        ]

    def _units(self, layers: Sequence[Layer], matrices: Sequence[Tensor], group: Collective) -> list[Tensor]:
        """About the size of each layer's P, the same on all ranks: largest singular values of the last step.

        A step that has none to go by takes a message more, of four bytes a layer.
        """
        if not self.half:
            return []
        bases = [None if one.basis is None or not bool(one.basis.any()) else one.basis for one in layers]
        sizes = torch.stack([matrix.square().sum().sqrt() for matrix in matrices])
        if any(basis is None for basis in bases):
            group.all_reduce(sizes)
        return [
            _positive(size / group.size if basis is None else _norms(basis.to(size.device)).max())
            for size, basis in zip(sizes, bases, strict=True)
        ]

    def _average(
        self, group: Collective, tensors: Sequence[Tensor], units: Sequence[Tensor]
    ) -> tuple[list[Tensor], Sequence[Tensor]]:
        """Means over ranks, and what this rank sent.

        In half precision tensors travel in these units, which all ranks share, and divided: neither an
        entry nor a sum leaves the range.
        """
        if not self.half:
            return [each / group.size for each in add_up(group, tensors)], tensors
        sent = [halved(each / (unit * group.size)) for each, unit in zip(tensors, units, strict=True)]
        sums = add_up(group, sent)
        return (
            [each.float() * unit for each, unit in zip(sums, units, strict=True)],
            [each.float() * (unit * group.size) for each, unit in zip(sent, units, strict=True)],
        )


def _start(layer: Layer, rank: int, seed: int, matrix: Tensor) -> Tensor:
    """The Q to begin with, columns of norm 1 (rest, rank): the same on all ranks.

    The last step's columns, those of the largest norm where there are too many; for what is missing, or
    has become zero, random ones.
    """
    rest = matrix.shape[1]
    kept = matrix.new_empty(rest, 0) if layer.basis is None else layer.basis.to(matrix.device)
    norms = _norms(kept)
    order = norms.argsort(descending=True, stable=True)[:rank]
    kept = kept[:, order[norms[order] > 0]]
    columns = torch.cat([kept, _normal(rest, rank - kept.shape[1], seed, matrix)], 1)
    return columns / _norms(columns)


def _positive(unit: Tensor) -> Tensor:
    return unit.where(unit != 0, torch.ones_like(unit))


def _normal(rows: int, columns: int, seed: int, like: Tensor) -> Tensor:
    rng = torch.Generator(like.device).manual_seed(seed)
    return torch.randn(rows, columns, generator=rng, dtype=like.dtype, device=like.device)


def _norms(columns: Tensor) -> Tensor:
    return columns.square().sum(0).sqrt()


def _orthonormal(columns: Tensor) -> Tensor:
    """An orthonormal basis whose span holds these columns: Householder's, which bears zero and equal ones."""
    return torch.linalg.qr(columns).Q  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def _squared_singular_values(matrix: Tensor) -> Tensor:
    """Ascending: eigenvalues of the smaller Gram matrix, ten times as fast as an SVD of large layers."""
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return torch.linalg.eigvalsh(gram).clamp(min=0)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
