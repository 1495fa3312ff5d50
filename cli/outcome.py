"""What came out of a job: counts, what recall saved, and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Column, Table

from . import words
from .console import table

if TYPE_CHECKING:
    from ..storage.models import TrialRow
    from .jobs import Result

SHOWN = 12
"""Rows of the front shown unless all are asked for."""


def print_result(out: Console, result: Result, *, everything: bool = False) -> None:
    """Print counts and front."""
    out.print(counts_text(result))
    if result.stage is None:
        return
    if not result.front:
        if result.counts:
            out.print(
                f"Stage {result.stage.name} has no feasible finished trial yet: there is no Pareto front."
            )
        return
    rows = result.front if everything else result.front[:SHOWN]
    optimised = [goal for goal in result.goals if goal.direction]
    kind = "Pareto front" if len(optimised) > 1 else "Best"
    out.print(f"\n{kind} of stage {result.stage.name}, {words.plural(len(result.front), 'trial')}:")
    out.print(front_table(result, rows))
    if len(rows) < len(result.front):
        out.print(f"… and {len(result.front) - len(rows)} more: orchestrate show {result.job.id} --pareto")


def counts_text(result: Result) -> str:
    """`24 trials: 20 finished, 4 recalled (which saved 38 s)`."""
    total = sum(result.counts.values())
    parts = [
        f"{count:,} {state}" for state, count in sorted(result.counts.items(), key=lambda item: -item[1])
    ]
    text = words.plural(total, "trial") + (f": {', '.join(parts)}" if parts else "")
    if result.counts.get("recalled"):
        text += f"; recalling saved {words.seconds(result.saved)} of running"
    return text


def front_table(result: Result, rows: Sequence[TrialRow]) -> Table:
    """The front: trial, objectives, test scores, and the choices that tell its candidates apart."""
    goals = [goal.name for goal in result.goals]
    tests = list(dict.fromkeys(name for row in rows for name in row.test or {}))
    shown = table("trial", *goals, *(f"test {name}" for name in tests), "choices")
    for column in shown.columns[:-1]:
        column.justify, column.no_wrap = "right", True
    _one_line(shown.columns[-1])
    names = words.differing([row.candidate for row in rows])
    for row in rows:
        test: dict[str, Any] = row.test or {}
        shown.add_row(
            f"#{row.number}",
            *(words.number(row.values.get(name, "-")) for name in goals),
            *(words.number(test.get(name, "-")) for name in tests),
            words.choices(row.candidate, names),
        )
    return shown


def _one_line(column: Column) -> None:
    column.no_wrap, column.overflow = True, "ellipsis"
