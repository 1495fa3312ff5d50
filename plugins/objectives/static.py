"""Objectives that a candidate's architecture decides before anything runs."""

from __future__ import annotations

from ...core import Candidate, SearchSpace, Shape, StaticObjective
from ._network import network


class Parameters(StaticObjective):
    """Trainable parameters of the network (`requires_grad`); a shared one counts once."""

    name = "parameters"
    summary = "trainable parameters of the network"
    direction = "minimize"
    unit = "parameters"
    needs_network = True

    def compute(self, candidate: Candidate, space: SearchSpace, shape: Shape) -> float:
        return float(network(space, candidate, shape).parameters)


class Flops(StaticObjective):
    """Floating-point operations of one forward pass over one sample, in eval mode.

    Counted by `torch.utils.flop_counter.FlopCounterMode`: 2 for each multiply-accumulate of a
    convolution, a matrix product or an attention. Not counted: biases, normalisation, activations,
    pooling, element-wise arithmetic. Zero padding counts as if its products were computed. Papers
    on mobile networks often print multiply-accumulates under the name of FLOPs: that is `macs`.
    """

    name = "flops"
    summary = "floating-point operations of one forward pass, two a multiply-accumulate"
    direction = "minimize"
    unit = "FLOPs"
    needs_network = True

    def compute(self, candidate: Candidate, space: SearchSpace, shape: Shape) -> float:
        return float(network(space, candidate, shape).flops)


class Macs(StaticObjective):
    """Multiply-accumulates of one forward pass over one sample: half of `flops`."""

    name = "macs"
    summary = "multiply-accumulates of one forward pass"
    direction = "minimize"
    unit = "MACs"
    needs_network = True

    def compute(self, candidate: Candidate, space: SearchSpace, shape: Shape) -> float:
        return network(space, candidate, shape).flops / 2
