"""A small search space of networks whose sizes can be worked out by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from orchestrate.core import Candidate, SearchSpace, Shape

SHAPE = Shape(input=(3, 8, 8), classes=10)


class Small(SearchSpace):
    """A strided convolution, BatchNorm, ReLU, pooling and a classifier."""

    name = "small"
    summary = "for tests"

    def __init__(self) -> None:
        super().__init__()
        self.builds_made = 0

    def choices(self, choose: Any) -> None:
        choose.categorical("width", [4, 8])

    def build(self, candidate: Candidate, shape: Shape) -> nn.Module:
        self.builds_made += 1
        width = candidate["width"]
        return nn.Sequential(
            nn.Conv2d(shape.input[0], width, 3, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, shape.classes),
        )


class Given(Small):
    """Builds whatever it is given to build."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make

    def build(self, candidate: Candidate, shape: Shape) -> nn.Module:
        self.builds_made += 1
        return self.make()


class ReadsValues(nn.Module):
    """Can't be built on the meta device: it looks at its numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 7)
        self.scale = torch.rand(3).max().item()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class BranchesOnValues(nn.Module):
    """Can be built on the meta device but not run there."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) if x.sum() >= 0 else x


class Draws(nn.Module):
    """Uses up random numbers when it is built and when it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x + torch.rand_like(x)) * torch.rand(7)
