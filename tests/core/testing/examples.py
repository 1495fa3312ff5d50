"""Small plugins that keep their contracts, for tests in this process and in others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrate.core import Candidate, Choose, SearchSpace, Shape, Split, SplitName, Task
from orchestrate.core.candidate import digest

if TYPE_CHECKING:
    from torch import nn


class Numbers(SearchSpace):
    """Numbers only."""

    name = "numbers"
    summary = "numbers only"

    def choices(self, choose: Choose) -> None:
        choose.real("x", -1.0, 1.0)
        choose.integer("n", 0, 20)


class Three(SearchSpace):
    """Three categories four times: 81 candidates."""

    name = "three"
    summary = "81 candidates"

    def choices(self, choose: Choose) -> None:
        for index in range(4):
            choose.categorical(f"edge{index}", ["none", "skip", "conv"])


class Networks(SearchSpace):
    """Perceptrons of one hidden layer."""

    name = "networks"
    summary = "perceptrons"

    def choices(self, choose: Choose) -> None:
        choose.categorical("width", [4, 8, 16])
        choose.categorical("activation", ["relu", "tanh"])

    def build(self, candidate: Candidate, shape: Shape) -> nn.Module:
        from math import prod

        from torch import nn

        width = candidate["width"]
        assert isinstance(width, int)
        activation = nn.ReLU() if candidate["activation"] == "relu" else nn.Tanh()
        inputs, outputs = nn.Linear(prod(shape.input), width), nn.Linear(width, shape.classes)
        return nn.Sequential(nn.Flatten(), inputs, activation, outputs)


class Blobs(Task):
    """Three clouds of points, as tiny images."""

    name = "blobs"
    summary = "three clouds of points"

    def shape(self) -> Shape:
        return Shape((1, 8, 8), 3)

    def split(self, name: SplitName) -> Split:
        import torch

        seed = ("train", "validation", "test").index(name)
        rng = torch.Generator().manual_seed(seed)
        targets = torch.arange(48) % 3
        centres = torch.eye(3)[targets].repeat_interleave(22, 1)[:, :64].reshape(-1, 1, 8, 8)
        return Split(centres + 0.3 * torch.randn(48, 1, 8, 8, generator=rng), targets)

    def digest(self) -> str:
        return digest("blobs")
