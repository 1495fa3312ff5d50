"""TopK: the entries of largest magnitude are sent, the rest waits for later steps (Deep Gradient
Compression, arXiv 1712.01887).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ....core import Collective
from ..indices import decode_indices, encode_indices, index_bytes
from ..metering import all_gather_bytes
from ..packing import from_bytes, to_bytes
from .base import CollectiveName, Family, Parcel, Sent, gather, halved


class TopK(Family):
    """A density of each layer's entries, gathered from all ranks as values and coded places.

    Args:
        points: candidate densities of a layer, before those that keep as many entries are merged.
        half: whether values travel in fp16; the rounding is fed back as well.
        feedback: whether what is left out is added to the next gradient.
    """

    name: ClassVar[str] = "topk"
    parameter: ClassVar[str] = "density"
    bounds: ClassVar[tuple[float, float]] = (0.5, 2.0)
    collective: ClassVar[CollectiveName] = "all_gather"

    def __init__(self, *, points: int = 25, half: bool = False, feedback: bool = True) -> None:
        self.points = points
        self.half = half
        self.feedback = feedback

    def check(self, setting: float) -> None:
        if not 0 < setting <= 1:
            raise ValueError(f"a density is above 0 and at most 1, not {setting:g}")

    def scaled(self, reference: float, multiple: float) -> float:
        return min(1.0, reference * multiple)

    def settings(self, shape: Sequence[int], reference: float, low: float, high: float) -> tuple[float, ...]:
        self.check(reference)
        n = math.prod(shape)
        grid = np.geomspace(min(1.0, low * reference), min(1.0, high * reference), self.points).tolist()
        kept = {kept_entries(n, density): density for density in grid}
        kept[kept_entries(n, reference)] = reference
        return tuple(kept[k] for k in sorted(kept))

    def wire_bytes(self, shape: Sequence[int], setting: float, ranks: int) -> float:
        n = math.prod(shape)
        k = kept_entries(n, setting)
        return all_gather_bytes(k * self._dtype.itemsize + index_bytes(n, k), ranks)

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float16 if self.half else torch.float32

    def _errors(self, gradient: Tensor, settings: Sequence[float]) -> Tensor:
        magnitudes = gradient.abs().reshape(-1).sort().values
        left_out = _running(magnitudes)  # element i: of the i smallest
        rounding = (
            _running(magnitudes - halved(magnitudes).float()) if self.half else torch.zeros_like(left_out)
        )
        n = len(magnitudes)
        at = torch.tensor([n - kept_entries(n, density) for density in settings], device=gradient.device)
        return (left_out[at] + rounding[-1] - rounding[at]).clamp(min=0).sqrt()

    def _exchange(
        self, parcels: Sequence[Parcel], inputs: Sequence[Tensor], group: Collective, seed: int
    ) -> list[Sent]:
        flat = [each.reshape(-1) for each in inputs]
        counts = [kept_entries(len(one), p.setting) for one, p in zip(flat, parcels, strict=True)]
        streams: list[Tensor] = []
        owns: list[Tensor] = []
        for given, k in zip(flat, counts, strict=True):
            places = _largest(given, k)
            values = halved(given[places]) if self.half else given[places]
            streams.append(torch.cat([to_bytes(values), encode_indices(places, len(given))]))
            owns.append(torch.zeros_like(given).index_copy_(0, places, values.float()))
        means = [torch.zeros_like(given) for given in flat]
        for parts in gather(group, streams):
            for mean, k, part in zip(means, counts, parts, strict=True):
                size = k * self._dtype.itemsize
                values = from_bytes(part[:size], self._dtype).float()
                mean.index_add_(0, decode_indices(part[size:], len(mean), k), values)
        return [
            Sent((mean / group.size).view(given.shape), own.view(given.shape))
            for mean, own, given in zip(means, owns, inputs, strict=True)
        ]


def kept_entries(n: int, density: float) -> int:
    """Entries of n that a density keeps: rounded up, one at least."""
    return min(n, max(1, math.ceil(density * n * (1 - 1e-12))))


def _largest(values: Tensor, k: int) -> Tensor:
    """Places of the k largest magnitudes, ascending: NaN counts as infinite, and the first of equals win."""
    if k == len(values):
        return torch.arange(k, device=values.device)
    magnitudes = values.abs().nan_to_num_(nan=math.inf, posinf=math.inf)
    threshold = magnitudes.topk(k, sorted=False).values.min()
    chosen = magnitudes > threshold
    ties = (magnitudes == threshold).nonzero().view(-1)
    chosen[ties[: k - int(chosen.sum())]] = True
    return chosen.nonzero().view(-1)


def _running(values: Tensor) -> Tensor:
    """Running sums of squares, in double precision, from none on (n + 1,)."""
    return torch.nn.functional.pad(values.double().square().cumsum(0), (1, 0))
