"""Which trials a stage's search chose, and how a later stage takes them."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.candidate import Candidate
from ..core.errors import SpaceExhausted
from ..core.objective import Goal
from ..core.pareto import feasible, losses, pareto_indices
from ..core.sampler import Sampler
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


class Taken(Sampler):
    """Proposes given candidates, in order: the `take` of a stage, or its single empty candidate."""

    name = "take"
    summary = "candidates taken from an earlier stage"

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        super().__init__()
        self._candidates = tuple(candidates)

    @property
    def lookahead(self) -> int:
        return len(self._candidates)

    def ask(self, number: int) -> Candidate:
        if number >= len(self._candidates):
            raise SpaceExhausted("every given candidate was proposed")
        return self._candidates[number]
