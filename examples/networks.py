"""A search space of one's own: small convolutional networks with GroupNorm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrate.core import Candidate, Choose, SearchSpace, Shape

if TYPE_CHECKING:
    from torch import nn


class GroupNormNet(SearchSpace):
    """One to three convolutions, each of its own width.

    GroupNorm normalises each image by itself, so the gradient of a batch is the sum of its parts'
    gradients, whoever computes them. BatchNorm's is not.
    """

    def choices(self, choose: Choose) -> None:
        layers = choose.integer("layers", 1, 3)
        for layer in range(layers):
            choose.categorical(f"width_{layer}", [8, 16, 32])

    def size(self) -> int:
        return 3 + 3**2 + 3**3

    def build(self, candidate: Candidate, shape: Shape) -> nn.Module:
        from torch import nn

        parts: list[nn.Module] = []
        channels = shape.input[0]
        for layer in range(int(candidate["layers"])):
            width = int(candidate[f"width_{layer}"])
            parts += [nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(4, width), nn.ReLU()]
            channels = width
        pooled = [nn.AdaptiveAvgPool2d(4), nn.Flatten()]
        return nn.Sequential(*parts, *pooled, nn.Linear(16 * channels, shape.classes))
