"""What a family of compressors is: one setting a layer, its size and error, and the exchange itself."""

from __future__ import annotations

import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from ....core import Collective
from ....core.seeds import spawn
from ..layer import Layer

CollectiveName: TypeAlias = Literal["all_reduce", "all_gather"]


@dataclass(frozen=True)
class Parcel:
    """A layer's part of an exchange: this rank's gradient, compressed by `setting`."""

    layer: Layer
    setting: float
    gradient: Tensor

    def seed(self, step: int, *path: int) -> int:
        """Keys what is drawn for the layer: the step's seed and its name, whoever else is in the message."""
        return spawn(step, zlib.crc32(self.layer.name.encode()), *path)


@dataclass(frozen=True)
class Sent:
    """What came of a parcel, before it counts.

    `mean` is the mean over ranks of what was decoded, `own` what this rank sent, decoded; both have the
    gradient's shape. `basis` is PowerSGD's, for the next step.
    """

    mean: Tensor
    own: Tensor | None = None
    basis: Tensor | None = None


class Family(ABC):
    """A compressor with one parameter. It holds options and no state: that is in `Layer`."""

    name: ClassVar[str]
    parameter: ClassVar[str]
    """The field's word for the setting."""
    bounds: ClassVar[tuple[float, float]]
    """Usual `low` and `high` of `settings`."""
    collective: ClassVar[CollectiveName]
    """What its messages travel by."""
    messages: ClassVar[int] = 1
    """Collectives of an exchange."""
    feedback: bool = False
    """Whether what a message leaves out is added to the next gradient."""

    @abstractmethod
    def settings(self, shape: Sequence[int], reference: float, low: float, high: float) -> tuple[float, ...]:
        """Candidate settings for a layer, ascending; `clamp(shape, reference)` is always among them.

        Raises:
            ValueError: the reference is no setting of the family.
        """

    def clamp(self, shape: Sequence[int], setting: float) -> float:
        """The setting as a layer of this shape bears it.

        Raises:
            ValueError: it is no setting of the family.
        """
        self.check(setting)
        return setting

    @abstractmethod
    def check(self, setting: float) -> None:
        """Refuse what is no setting of the family.

        Raises:
            ValueError: with what is allowed.
        """

    def scaled(self, reference: float, multiple: float) -> float:
        """The family's setting nearest to a multiple of the reference, before a layer clamps it."""
        return max(1, round(reference * multiple))

    @abstractmethod
    def wire_bytes(self, shape: Sequence[int], setting: float, ranks: int) -> float:
        """Bytes that one rank sends for a layer of this shape, in a group of `ranks` (ring collectives)."""

    def errors(self, gradient: Tensor, settings: Sequence[float]) -> Tensor:
        """Frobenius norms of what each setting leaves out of a gradient, float64 (K,) on the CPU.

        Of a random compressor: the root of the expected square. NaN where the gradient isn't finite.
        """
        if not bool(gradient.isfinite().all()):
            return torch.full((len(settings),), math.nan, dtype=torch.float64)
        return self._errors(gradient.detach().float(), settings).cpu()

    def exchange(self, parcels: Sequence[Parcel], group: Collective, seed: int) -> list[Tensor]:
        """Send all parcels; return the mean over ranks of each one's decoded gradients, fp32.

        Called on all ranks at once, with the same layers and settings in the same order. The means are
        the same on all ranks, bit by bit. A layer's residual, if any, is sent with its gradient, whoever
        left it; a family without feedback leaves none.

        If any mean isn't finite, nothing was sent as far as the layers know: their records stay as
        they were, on all ranks alike. Who exchanges by several families, and drops the step for one,
        goes back to `Layer.state` of the others. In a group of one nothing is compressed.

        Args:
            parcels: of this rank.
            group: its ranks.
            seed: of the step, the same on all ranks.
        """
        inputs = [one.layer.compensated(one.gradient) for one in parcels]
        if group.size == 1:
            sent = [Sent(each) for each in inputs]
        else:
            sent = self._exchange(parcels, inputs, group, seed) if parcels else []
        if all(bool(one.mean.isfinite().all()) for one in sent):
            for parcel, given, one in zip(parcels, inputs, sent, strict=True):
                parcel.layer.residual = given - one.own if self.feedback and one.own is not None else None
                if one.basis is not None:
                    parcel.layer.basis = one.basis
        return [one.mean for one in sent]

    @abstractmethod
    def _errors(self, gradient: Tensor, settings: Sequence[float]) -> Tensor:
        """`errors` of a finite fp32 gradient."""

    @abstractmethod
    def _exchange(
        self, parcels: Sequence[Parcel], inputs: Sequence[Tensor], group: Collective, seed: int
    ) -> list[Sent]:
        """Exchange `inputs`, the parcels' gradients with their residuals, in a group of several."""


def halved(values: Tensor) -> Tensor:
    """Round to fp16. What is finite stays finite."""
    limit = torch.finfo(torch.float16).max
    return torch.where(values.isinf(), values, values.clamp(-limit, limit)).half()


def gather(group: Collective, streams: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Every rank's streams of bytes, in rank order: in one message."""
    sizes = [len(each) for each in streams]
    for whole in group.all_gather(torch.cat(list(streams))):
        yield torch.split(whole, sizes)
