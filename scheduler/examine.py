"""Examines a candidate before any launch: its static objectives, its bounds, its fingerprint.

Runs off the driver's main thread, since building a network or hashing takes its time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..core.candidate import Candidate
from ..core.fingerprint import NO_PRINT, Key, Print
from ..core.job import Job, Stage
from ..core.objective import Goal, StaticObjective
from ..core.task import SearchView
from .trial import describe, finite


@dataclass(frozen=True)
class Examination:
    """What is known of a candidate before it runs."""

    values: Mapping[str, float] = field(default_factory=dict[str, float])
    print: Print = NO_PRINT
    infeasible: str | None = None
    """Which bound it breaks, when it does."""
    error: Mapping[str, Any] | None = None
    """What went wrong: the candidate's own code failed."""
    seconds: float = 0.0
    """For the static objectives."""
    hash_seconds: float = 0.0


class Examiner:
    """Examines a stage's candidates. A print is computed once for equal ones.

    Every print begins with the exact key, which costs nothing: whoever answers by it needs no hash. Without
    `hashing` there is no other. Keys that come at sight are tried first: where recall is `familiar` with
    them, the others aren't computed.
    """

    def __init__(
        self,
        stage: Stage,
        job: Job,
        *,
        hashing: bool = True,
        familiar: Callable[[Sequence[Key]], bool] = lambda _: False,
    ) -> None:
        self.hashing = hashing
        self._familiar = familiar
        self._stage = stage
        self._job = job
        self._task = SearchView(job.task)
        self._prints: dict[str, Print] = {}
        self._lock = threading.Lock()

    def __call__(self, candidate: Candidate) -> Examination:
        """Compute the candidate's static objectives and, where it is feasible, its print."""
        begun = middle = time.perf_counter()
        values: dict[str, float] = {}
        made = NO_PRINT
        try:
            for goal, objective in zip(self._stage.goals, self._stage.objectives, strict=True):
                if isinstance(objective, StaticObjective):
                    value = objective.compute(candidate, self._stage.space, self._job.task.shape())
                    values.update(finite({goal.name: value}))
            values = self._stage.completed(values)
            broken = _broken_bound(values, self._stage.goals)
            middle = time.perf_counter()
            if broken is None and self._stage.fingerprint is not None:
                made = self._print(candidate)
        except Exception as error:  # noqa: BLE001 - a candidate that can't be built is a failed trial, not a failed job
            return Examination(values, error=describe(error), seconds=time.perf_counter() - begun)
        return Examination(
            values, made, broken, seconds=middle - begun, hash_seconds=time.perf_counter() - middle
        )

    def key(self, candidate: Candidate) -> str:
        """The strongest name of a candidate: equal for those known to compute the same."""
        try:
            return self._whole_print(candidate).keys[-1].digest
        except Exception:  # noqa: BLE001 - once it is asked for, its examination says what is wrong with it
            return candidate.digest

    def _print(self, candidate: Candidate) -> Print:
        if self.hashing and candidate.digest not in self._prints:
            assert self._stage.fingerprint is not None
            seen = self._stage.fingerprint.at_sight(candidate, self._stage.space)
            if seen and self._familiar((first := _begun_exact(Print(seen), candidate)).keys):
                return first  # not kept: by the next time its class may be buried
        return self._whole_print(candidate)

    def _whole_print(self, candidate: Candidate) -> Print:
        with self._lock:  # samplers ask for keys on the driver's thread
            found = self._prints.get(candidate.digest)
            if found is None:
                found = _begun_exact(self._compute(candidate) if self.hashing else NO_PRINT, candidate)
                self._prints[candidate.digest] = found
            return found

    def _compute(self, candidate: Candidate) -> Print:
        assert self._stage.fingerprint is not None
        return self._stage.fingerprint.compute(candidate, self._stage.space, self._task)


def _begun_exact(made: Print, candidate: Candidate) -> Print:
    if made.keys and made.keys[0].tier == "exact":
        return made
    return replace(made, keys=(Key("exact", candidate.digest), *made.keys))


def _broken_bound(values: Mapping[str, float], goals: tuple[Goal, ...]) -> str | None:
    for goal in goals:
        if goal.name in values and goal.violation(values[goal.name]) > 0:
            bound = f"max {goal.maximum:g}" if goal.maximum is not None else ""
            if goal.minimum is not None and values[goal.name] < goal.minimum:
                bound = f"min {goal.minimum:g}"
            return f"{goal.name} {values[goal.name]:g} breaks {bound}"
    return None
