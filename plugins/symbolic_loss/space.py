"""The space of symbolic losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import Field, PositiveInt

from ...core import Candidate, Choose, FunctionProbe, PluginOptions, SearchSpace, Shape
from .expression import BINARY, INPUTS, UNARY, evaluate, tree

if TYPE_CHECKING:
    from torch import nn


class SymbolicLossOptions(PluginOptions):
    """Options of `symbolic-loss`."""

    nodes: int = Field(6, ge=1, le=20, description="Most operations in an expression.")
    hidden: PositiveInt = Field(32, description="Width of the hidden layer of the classifier it trains.")


class SymbolicLoss(SearchSpace[SymbolicLossOptions]):
    """Loss functions written as expressions of a predicted probability and its target.

    A candidate is a list of nodes, each an operation on the inputs or on earlier nodes; the last one is
    the loss, which is summed over classes and samples. Nodes that it doesn't use are there, and do
    nothing. What is trained with it is a classifier with one hidden layer.

    After the loss searches of Gonzalez and Miikkulainen, "Improved Training Speed, Accuracy, and Data
    Utilization Through Loss Function Optimization", arXiv 1905.11528, and Co-Reyes et al., "Evolving
    Reinforcement Learning Algorithms", arXiv 2101.03958, whose graphs of operations these are.
    """

    name: ClassVar[str] = "symbolic-loss"
    summary: ClassVar[str] = "loss functions as expressions of prediction and target"

    def choices(self, choose: Choose) -> None:
        count = choose.integer("nodes", 1, self.options.nodes)
        for index in range(count):
            at = f"node{index}"
            operation = choose.categorical(at, [*BINARY, *UNARY])
            choose.integer(f"{at}.left", 0, len(INPUTS) + index - 1)
            if operation in BINARY:
                choose.integer(f"{at}.right", 0, len(INPUTS) + index - 1)

    def size(self) -> int:
        total, before = 0, 1
        for index in range(self.options.nodes):
            operands = len(INPUTS) + index
            before *= len(BINARY) * operands**2 + len(UNARY) * operands
            total += before
        return total

    def build(self, candidate: Candidate, shape: Shape) -> nn.Module:
        from math import prod

        from torch import nn

        width = self.options.hidden
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(prod(shape.input), width),
            nn.ReLU(),
            nn.Linear(width, shape.classes),
        )

    def canonical(self, candidate: Candidate) -> Any:
        return tree(candidate)

    def probe(self, candidate: Candidate, shape: Shape) -> FunctionProbe:
        """Compare losses by their values and slopes at random predictions, for both targets."""
        return FunctionProbe(lambda seed, examples: _emitted(candidate, seed, examples))


def _emitted(candidate: Candidate, seed: int, examples: int) -> Sequence[float]:
    import torch

    from ...core.seeds import generator

    drawn = generator(seed).uniform(0.02, 0.98, 2 * examples).tolist()
    prediction = torch.tensor(drawn, dtype=torch.float64, requires_grad=True)
    target = (torch.arange(2 * examples) % 2).to(torch.float64)
    loss = evaluate(candidate, prediction, target) + 0.0 * prediction
    (slope,) = torch.autograd.grad(loss.sum(), [prediction])
    return cast(Sequence[float], torch.cat([loss.detach(), slope]).tolist())  # pyright: ignore[reportUnknownMemberType]
