"""Dense: every entry is sent, in single or in half precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ....core import Collective
from ....core.training.collective import add_up
from ..metering import all_reduce_bytes
from .base import CollectiveName, Family, Parcel, Sent, halved


class Dense(Family):
    """An all-reduce: exact at 32 bits, rounded at 16."""

    name: ClassVar[str] = "dense"
    parameter: ClassVar[str] = "float width"
    bounds: ClassVar[tuple[float, float]] = (16, 32)
    collective: ClassVar[CollectiveName] = "all_reduce"

    def check(self, setting: float) -> None:
        if setting not in (16, 32):
            raise ValueError(f"a dense gradient has floats of 16 or 32 bits, not {setting:g}")

    def settings(self, shape: Sequence[int], reference: float, low: float, high: float) -> tuple[int, ...]:
        self.check(reference)
        return tuple(width for width in (16, 32) if low <= width <= high or width == reference)

    def wire_bytes(self, shape: Sequence[int], setting: float, ranks: int) -> float:
        return all_reduce_bytes(math.prod(shape) * int(setting) // 8, ranks)

    def _errors(self, gradient: Tensor, settings: Sequence[float]) -> Tensor:
        rounding = (gradient - halved(gradient).float()).double().square().sum().sqrt()
        return torch.stack([rounding if width == 16 else torch.zeros_like(rounding) for width in settings])

    def _exchange(
        self, parcels: Sequence[Parcel], inputs: Sequence[Tensor], group: Collective, seed: int
    ) -> list[Sent]:
        order = sorted(range(len(parcels)), key=lambda index: parcels[index].setting)  # a message a width
        # Halves are divided first: their sum could leave the range.
        given = [halved(inputs[i] / group.size) if parcels[i].setting == 16 else inputs[i] for i in order]
        means: dict[int, Tensor] = {}
        for index, total in zip(order, add_up(group, given), strict=True):
            half = total.dtype == torch.float16
            means[index] = total.float() if half else total / group.size
        return [Sent(means[index]) for index in range(len(parcels))]
