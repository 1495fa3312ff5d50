"""Expressions of a prediction and a target, written as a list of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...core import Value

if TYPE_CHECKING:
    from torch import Tensor

BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum")
UNARY = ("negate", "square", "absolute", "exp", "log", "sqrt")
COMMUTE = {"add", "multiply", "maximum", "minimum"}
INPUTS = ("prediction", "target", "one")
"""What expressions start from: the probability given to a class, 1 or 0 as it is true, and 1."""

TINY = 1e-6  # logarithms, roots and quotients stay away from 0 by so much


def nodes(choices: Mapping[str, Value]) -> list[tuple[str, tuple[int, ...]]]:
    """Read the nodes of a candidate: operation and operands, counted from the inputs on."""
    made: list[tuple[str, tuple[int, ...]]] = []
    while (operation := choices.get(f"node{len(made)}")) is not None:
        at = f"node{len(made)}"
        operands = [choices[f"{at}.{side}"] for side in ("left", "right") if f"{at}.{side}" in choices]
        made.append((str(operation), tuple(int(operand or 0) for operand in operands)))
    return made


def tree(choices: Mapping[str, Value]) -> Any:
    """Give the expression of the last node, as nested lists; operands that can be swapped are sorted."""
    made: list[Any] = list(INPUTS)
    for operation, operands in nodes(choices):
        inside = [made[operand] for operand in operands]
        if operation in COMMUTE:
            inside.sort(key=repr)
        made.append([operation, *inside])
    return made[-1]


def text(choices: Mapping[str, Value]) -> str:
    """Write the expression, as `subtract(target, prediction)`."""

    def written(part: Any) -> str:
        return part if isinstance(part, str) else f"{part[0]}({', '.join(map(written, part[1:]))})"

    return written(tree(choices))


def evaluate(choices: Mapping[str, Value], prediction: Tensor, target: Tensor) -> Tensor:
    """Compute the expression elementwise; differentiable in the prediction."""
    import torch

    made: list[Tensor] = [prediction, target, torch.ones_like(prediction)]
    for operation, operands in nodes(choices):
        made.append(_apply(operation, *(made[operand] for operand in operands)))
    return made[-1]


def _apply(operation: str, one: Tensor, *others: Tensor) -> Tensor:
    return _binary(operation, one, others[0]) if others else _unary(operation, one)


def _binary(operation: str, one: Tensor, two: Tensor) -> Tensor:
    import torch

    match operation:
        case "add":
            return one + two
        case "subtract":
            return one - two
        case "multiply":
            return one * two
        case "divide":
            return one / torch.where(two < 0, two - TINY, two + TINY)
        case "maximum":
            return torch.maximum(one, two)
        case "minimum":
            return torch.minimum(one, two)
        case _:
            raise ValueError(f"no operation of two operands is called {operation!r}")


def _unary(operation: str, one: Tensor) -> Tensor:
    import torch

    match operation:
        case "negate":
            return -one
        case "square":
            return one * one
        case "absolute":
            return torch.abs(one)
        case "exp":
            return torch.exp(torch.clamp(one, max=20.0))
        case "log":
            return torch.log(torch.abs(one) + TINY)
        case "sqrt":
            return torch.sqrt(torch.abs(one) + TINY)
        case _:
            raise ValueError(f"no operation of one operand is called {operation!r}")
