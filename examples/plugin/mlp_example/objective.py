"""The objective: known from the candidate alone, so that a bound on it costs nothing."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from orchestrate.core import Candidate, Direction, PluginOptions, SearchSpace, Shape, StaticObjective


class WeightBytesOptions(PluginOptions):
    """Options of `weight-bytes`."""

    bits: Literal[4, 8, 16, 32] = Field(default=32, description="Bits per weight as deployed.")


class WeightBytes(StaticObjective[WeightBytesOptions]):
    """Bytes that the network's weights take on the device it is deployed to."""

    name: ClassVar[str] = "weight-bytes"
    summary: ClassVar[str] = "size of the weights as deployed"
    direction: ClassVar[Direction] = "minimize"
    unit: ClassVar[str] = "bytes"

    def compute(self, candidate: Candidate, space: SearchSpace, shape: Shape) -> float:
        import torch

        with torch.device("meta"):  # shapes without memory
            model = space.build(candidate, shape)
        return sum(parameter.numel() for parameter in model.parameters()) * self.options.bits / 8
