"""What came out of a job: counts, what recall saved, and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from . import words
from .console import table

if TYPE_CHECKING:
    from ..storage.models import TrialRow
    from .jobs import Result

SHOWN = 12
"""Rows of the front shown unless all are asked for."""

GAP = 3
"""Columns between two of the table's, and at its sides."""

MIN_CHOICES = 20


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
    out.print(front_table(result, rows, None if everything else out.width))
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


def front_table(result: Result, rows: Sequence[TrialRow], room: int | None) -> Table:
    """The front: trial, objectives, those of a second training, test scores, and the choices that tell its
    candidates apart.

    With `room`, the table's width, choices that don't fit are cut; else they are wrapped.
    """
    goals = [goal.name for goal in result.goals]
    tests = list(dict.fromkeys(name for row in rows for name in row.test or {}))
    tests = [name for name in tests if name in goals] or tests
    again = [name for name in goals if any(name in (row.confirmed or {}) for row in rows)]
    heading = ["trial", *goals, *(f"{name} again" for name in again), *(f"test {name}" for name in tests)]
    lines = [_numbers(row, goals, again, tests) for row in rows]
    names = words.differing([row.candidate for row in rows])
    texts = [words.choices(row.candidate, names) for row in rows]
    if room is not None:
        taken = sum(max(len(cell) for cell in column) for column in zip(heading, *lines, strict=True))
        left = max(MIN_CHOICES, room - taken - GAP * (len(heading) + 1))
        texts = [text if len(text) <= left else f"{text[: left - 1]}…" for text in texts]
    shown = table(*heading, "choices", right=heading)
    for column in shown.columns[:-1]:
        column.no_wrap = True
    for line, text in zip(lines, texts, strict=True):
        shown.add_row(*line, text)
    return shown


def _numbers(row: TrialRow, goals: Sequence[str], again: Sequence[str], tests: Sequence[str]) -> list[str]:
    values, test, confirmed = row.values, row.test or {}, row.confirmed or {}
    return [
        f"#{row.number}",
        *(words.number(values.get(name, "-")) for name in goals),
        *(words.number(confirmed.get(name, "-")) for name in again),
        *(words.number(test.get(name, "-")) for name in tests),
    ]
