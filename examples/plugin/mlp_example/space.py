"""The search space: how many layers, and how wide each one is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, PositiveInt

from orchestrate.core import Candidate, Choose, PluginOptions, SearchSpace, Shape

if TYPE_CHECKING:
    from torch import nn

WIDTHS = (32, 64, 128, 256)


class MlpOptions(PluginOptions):
    """Options of `mlp`."""

    depth: PositiveInt = Field(default=4, description="Most hidden layers.")


class Mlp(SearchSpace[MlpOptions]):
    """Fully connected ReLU networks with 1 to `depth` hidden layers, each of its own width."""

    name: ClassVar[str] = "mlp"
    summary: ClassVar[str] = "fully connected networks: depth, and a width per layer"

    def choices(self, choose: Choose) -> None:
        layers = choose.integer("layers", 1, self.options.depth)
        for layer in range(layers):
            choose.categorical(f"width_{layer}", WIDTHS)

    def size(self) -> int:
        return sum(len(WIDTHS) ** layers for layers in range(1, self.options.depth + 1))

    def build(self, candidate: Candidate, shape: Shape) -> nn.Module:
        from math import prod

        from torch import nn

        parts: list[nn.Module] = [nn.Flatten()]
        inputs = prod(shape.input)
        for layer in range(int(candidate["layers"])):
            width = int(candidate[f"width_{layer}"])
            parts += [nn.Linear(inputs, width), nn.ReLU()]
            inputs = width
        return nn.Sequential(*parts, nn.Linear(inputs, shape.classes))
