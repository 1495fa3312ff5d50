from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from orchestrate.core import (
    Candidate,
    MeasuredObjective,
    Objective,
    ReportedObjective,
    SearchSpace,
    Shape,
    StaticObjective,
)
from orchestrate.core.testing import ContractError, check_objective
from tests.core.testing.examples import Networks

if TYPE_CHECKING:
    import torch
    from torch import nn

SHAPE = Shape((1, 8, 8), 3)


class Width(StaticObjective):
    """The width."""

    name = "width"
    summary = "the width"
    direction = "minimize"

    def compute(self, candidate: Candidate, space: SearchSpace, shape: Shape) -> float:
        return float(str(candidate["width"]))


class Undirected(Width):
    """Has no sense."""

    direction = "down"  # type: ignore[assignment]


class Drifting(Width):
    """Gives another value each time."""

    calls = count()

    def compute(self, candidate: Candidate, space: SearchSpace, shape: Shape) -> float:
        return float(next(self.calls))


class Infinite(Width):
    """Gives an infinity."""

    def compute(self, candidate: Candidate, space: SearchSpace, shape: Shape) -> float:
        return float("inf")


class Failing(Width):
    """Fails."""

    def compute(self, candidate: Candidate, space: SearchSpace, shape: Shape) -> float:
        raise ZeroDivisionError


class Intrusive(MeasuredObjective):
    """Leaves the network in training mode."""

    name = "intrusive"
    summary = "leaves its mark"
    direction = "minimize"

    def measure(self, model: nn.Module, shape: Shape, device: torch.device) -> float:
        model.train()
        return 1.0


class Clearing(Intrusive):
    """Clears the network's parameters."""

    def measure(self, model: nn.Module, shape: Shape, device: torch.device) -> float:
        for parameter in model.parameters():
            parameter.data.zero_()
        return 1.0


class Unnamed(ReportedObjective):
    """Reads no metric."""

    name = "unnamed"
    summary = "no metric"
    direction = "minimize"
    metric = ""


class Vague(Objective):
    """Is of no kind."""

    name = "vague"
    summary = "no kind"
    direction = "minimize"


@pytest.mark.parametrize(
    ("objective", "rule"),
    [
        (Undirected(), "has the direction 'down'"),
        (Drifting(), "gives two values"),
        (Infinite(), "gives inf"),
        (Failing(), "must judge.*ZeroDivisionError"),
        (Intrusive(), "changed the network"),
        (Clearing(), "changed the network"),
        (Unnamed(), "reads no metric"),
        (Vague(), "neither static nor reported nor measured"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_rule_is_named(objective: Objective, rule: str) -> None:
    with pytest.raises(ContractError, match=rule):
        check_objective(objective, Networks(), SHAPE)


def test_a_sound_objective_passes() -> None:
    check_objective(Width(), Networks(), SHAPE)
