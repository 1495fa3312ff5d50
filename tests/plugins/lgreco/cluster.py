"""Ranks in threads that exchange gradients step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from orchestrate.core.testing import Meeting
from orchestrate.plugins.lgreco.families import QSGD, Dense, Family, Parcel, PowerSGD, TopK
from orchestrate.plugins.lgreco.layer import Layer
from orchestrate.plugins.lgreco.metering import Metered

SHAPES: Mapping[str, tuple[int, ...]] = {
    "convolution": (7, 3, 3, 3),
    "linear": (10, 33),
    "tall": (41, 5),
    "bias": (13,),
    "scalar": (),
    "one": (1,),
}

LOSSY: Mapping[str, tuple[Family, float]] = {
    "topk": (TopK(), 0.1),
    "topk, half": (TopK(half=True), 0.1),
    "topk, all": (TopK(), 1.0),
    "qsgd": (QSGD(bucket=50), 4),
    "qsgd, l2": (QSGD(bucket=50, norm="l2"), 3),
    "qsgd, fed back": (QSGD(bucket=50, feedback=True), 5),
    "powersgd": (PowerSGD(), 2),
    "powersgd, half": (PowerSGD(half=True), 2),
}
EVERY: Mapping[str, tuple[Family, float]] = {**LOSSY, "dense": (Dense(), 32), "dense, half": (Dense(), 16)}


class Cluster:
    """A record of each layer for each rank. What every rank sent last is in `bytes` and `calls`."""

    def __init__(self, ranks: int, shapes: Mapping[str, tuple[int, ...]] = SHAPES) -> None:
        self.ranks = ranks
        self.shapes = dict(shapes)
        self.layers = [[Layer(name, shape) for name, shape in shapes.items()] for _ in range(ranks)]
        self.bytes = 0.0
        self.calls = 0

    def draw(self, seed: int) -> list[list[Tensor]]:
        """Gradients (rank, layer), from a normal distribution."""
        rng = torch.Generator().manual_seed(seed)
        return [
            [torch.randn(shape, generator=rng) for shape in self.shapes.values()] for _ in range(self.ranks)
        ]

    def step(
        self,
        family: Family,
        settings: float | Sequence[float],
        gradients: Sequence[Sequence[Tensor]],
        seed: int = 0,
    ) -> list[Tensor]:
        """Exchange; give the means, which all ranks have alike."""
        chosen = settings if isinstance(settings, Sequence) else [settings] * len(self.shapes)

        def work(group):
            layers, mine = self.layers[group.rank], gradients[group.rank]
            metered = Metered(group)
            parcels = [
                Parcel(layer, family.clamp(layer.shape, setting), gradient)
                for layer, setting, gradient in zip(layers, chosen, mine, strict=True)
            ]
            return family.exchange(parcels, metered, seed), metered

        found = Meeting(self.ranks).run(work)
        means, meter = found[0]
        for others, other in found[1:]:
            assert other.sent == meter.sent
            for mean, same in zip(means, others, strict=True):
                assert mean.numpy().tobytes() == same.numpy().tobytes()
        for mean, shape in zip(means, self.shapes.values(), strict=True):
            assert tuple(mean.shape) == shape
            assert mean.dtype == torch.float32
        self.bytes, self.calls = meter.sent, meter.calls
        return means

    def waiting(self) -> list[Tensor]:
        """Mean residual of each layer."""
        found = []
        for index, shape in enumerate(self.shapes.values()):
            residuals = [layers[index].residual for layers in self.layers]
            found.append(sum(torch.zeros(shape) if one is None else one for one in residuals) / self.ranks)
        return found


def average(gradients: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Means over ranks."""
    return [torch.stack(list(each)).mean(0) for each in zip(*gradients, strict=True)]
