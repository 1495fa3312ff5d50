"""Which trials a stage's search chose."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.objective import Goal
from ..core.pareto import feasible, losses, pareto_indices
from ..storage.models import TrialRow

SCORED = ("finished", "recalled")


def scored(rows: Sequence[TrialRow]) -> list[TrialRow]:
    """The trials that have a value for every goal, by number."""
    return [row for row in rows if row.state in SCORED]


def pareto(rows: Sequence[TrialRow], goals: Sequence[Goal], limit: int | None = None) -> list[TrialRow]:
    """The feasible, non-dominated trials, best in the first optimised goal first."""
    candidates = scored(rows)
    front = [candidates[index] for index in pareto_indices([row.values for row in candidates], goals)]
    return front[:limit]


def best(rows: Sequence[TrialRow], goals: Sequence[Goal], limit: int) -> list[TrialRow]:
    """The feasible trials best in the first optimised goal; one a candidate, the earliest."""
    candidates = [row for row in scored(rows) if feasible(row.values, goals)]
    if not candidates:
        return []
    table = losses([row.values for row in candidates], goals)
    ordered = sorted(range(len(candidates)), key=lambda index: (table[index][0], candidates[index].number))
    chosen: dict[str, TrialRow] = {}
    for index in ordered:
        chosen.setdefault(candidates[index].digest, candidates[index])
    return list(chosen.values())[:limit]
