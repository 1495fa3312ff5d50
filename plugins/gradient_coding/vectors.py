"""Gradients as flat vectors: what a worker sends for a part, and what the master makes of the sum.

A vector has one bucket for each type of parameter and a tail in double precision: the loss, and what
the part adds to the network's running statistics. All of it is linear in the samples, so it is coded,
added up and decoded as one.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...core.training.threads import threads

Array: TypeAlias = NDArray[np.float64] | NDArray[np.float32]


@dataclass(frozen=True)
class Vector:
    """A coded sum of partial gradients.

    `used` tells for each trainable parameter whether the loss depends on it: an optimiser skips one
    that none does, as it would in one process. `counts` are changes of integer buffers.
    """

    buckets: tuple[Array, ...]
    tail: NDArray[np.float64]
    used: NDArray[np.bool_]
    counts: tuple[int, ...] = ()

    @property
    def nbytes(self) -> int:
        """Size on the wire, in bytes."""
        return sum(bucket.nbytes for bucket in self.buckets) + self.tail.nbytes + self.used.nbytes


class Layout:
    """How a network's gradients lie in a vector. Master and workers derive the same one."""

    def __init__(self, model: nn.Module) -> None:
        self.parameters = [one for one in model.parameters() if one.requires_grad]
        self.statistics = [one for one in model.buffers() if one.is_floating_point()]
        self.counters = [one for one in model.buffers() if not one.is_floating_point() and one.numel() == 1]
        groups: dict[torch.dtype, list[int]] = {}
        for index, parameter in enumerate(self.parameters):
            groups.setdefault(parameter.dtype, []).append(index)
        self._groups = list(groups.values())
        self._types = list(groups)
        self._statistics = sum(one.numel() for one in self.statistics)

    def sums(self, *, precise: bool) -> list[Tensor]:
        """Zeros for the buckets and the tail, on the CPU.

        With `precise` all are doubles: coefficients other than 0 and 1 cancel most of a vector's
        digits. Otherwise doubles stay doubles and all else travels in single precision.
        """
        types = [torch.float64 if precise or each == torch.float64 else torch.float32 for each in self._types]
        sizes = [sum(self.parameters[index].numel() for index in group) for group in self._groups]
        buckets = [torch.zeros(size, dtype=dtype) for size, dtype in zip(sizes, types, strict=True)]
        return [*buckets, torch.zeros(1 + self._statistics, dtype=torch.float64)]

    def add(
        self, sums: Sequence[Tensor], coefficient: float, loss: float, before: Sequence[Tensor], count: int
    ) -> None:
        """Add what the last backward pass left, times `coefficient`, to `sums`.

        `before` are the floating-point buffers as they were before it, `count` its samples: each
        sample counts the same in the average of the statistics.
        """
        for group, bucket in zip(self._groups, sums[:-1], strict=True):
            start = 0
            for index in group:
                parameter = self.parameters[index]
                end = start + parameter.numel()
                if parameter.grad is not None:
                    grad = parameter.grad.reshape(-1).to("cpu", bucket.dtype)
                    bucket[start:end].add_(grad, alpha=coefficient)
                start = end
        tail, start = sums[-1], 1
        tail[0] += coefficient * loss
        for now, old in zip(self.statistics, before, strict=True):
            end = start + now.numel()
            change = (now.detach() - old).reshape(-1).to("cpu", torch.float64)
            tail[start:end].add_(change, alpha=coefficient * count)
            start = end

    def apply(
        self, sums: Sequence[Tensor], used: NDArray[np.bool_], counts: Sequence[int], count: int
    ) -> float:
        """Leave the mean over `count` samples in `.grad` and in the buffers; return the mean loss."""
        for group, bucket in zip(self._groups, sums[:-1], strict=True):
            mean, start = bucket / count, 0
            for index in group:
                parameter = self.parameters[index]
                end = start + parameter.numel()
                part = mean[start:end].view_as(parameter).to(parameter.device, parameter.dtype)
                parameter.grad = part if used[index] else None
                start = end
        tail, start = sums[-1] / count, 1
        for buffer in self.statistics:
            end = start + buffer.numel()
            buffer.add_(tail[start:end].view_as(buffer).to(buffer.device, buffer.dtype))
            start = end
        for counter, change in zip(self.counters, counts, strict=True):
            if change:
                counter.add_(change)
        return float(tail[0])


def combine(terms: Sequence[tuple[Vector, float]]) -> list[Tensor]:
    """Add up vectors, each times its weight: buckets and tail, as doubles unless all weights are 1.

    Bound by the memory that it reads: each vector once, and nothing is written but the sum. On one thread:
    torch would have its own meet after each vector, which takes far longer where cores are shared.
    """
    plain = all(weight == 1 for _, weight in terms)
    sums: list[Tensor] = []
    with threads(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of memory that is read-only: vectors are only read
        for parts in zip(*((*vector.buckets, vector.tail) for vector, _ in terms), strict=True):
            single = plain and parts[0].dtype == np.float32
            total = torch.zeros(len(parts[0]), dtype=torch.float32 if single else torch.float64)
            for part, (_, weight) in zip(parts, terms, strict=True):
                total.add_(torch.from_numpy(part), alpha=weight)  # pyright: ignore[reportUnknownMemberType]
            sums.append(total)
    return sums
