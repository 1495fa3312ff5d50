"""Which trials count as chosen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from orchestrate.core import Goal
from orchestrate.scheduler.selection import best, pareto

GOALS = (Goal("accuracy", "maximize"), Goal("flops", "minimize", maximum=100))


def row(number: int, accuracy: float, flops: float, state: str = "finished", digest: str = "") -> Any:
    values = {"accuracy": accuracy, "flops": flops}
    return SimpleNamespace(number=number, state=state, values=values, digest=digest or str(number))


ROWS = [
    row(0, 0.9, 50),
    row(1, 0.8, 20),
    row(2, 0.7, 30),  # dominated by 1
    row(3, 0.99, 200),  # infeasible
    row(4, 0.95, 90, "failed"),
    row(5, 0.95, 90, "recalled"),
    row(6, 0.9, 50),  # the same point as 0
]


def test_pareto_leaves_out_the_dominated_the_infeasible_the_unscored_and_repeats() -> None:
    assert [found.number for found in pareto(ROWS, GOALS)] == [5, 0, 1]
    assert [found.number for found in pareto(ROWS, GOALS, 2)] == [5, 0]


def test_best_is_by_the_first_goal_one_a_candidate() -> None:
    rows = [*ROWS, row(7, 0.95, 90, digest="5")]
    assert [found.number for found in best(rows, GOALS, 3)] == [5, 0, 6]
    assert best([ROWS[3]], GOALS, 3) == []
