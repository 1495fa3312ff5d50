"""How far a running job is, as the life-cycle hooks tell. How that looks is for `live` and `plain`."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from ..core.hookspecs import JobEvent, StageEvent, TrialEvent, hookimpl
from ..core.objective import Goal
from ..core.pareto import feasible, hypervolume, pareto_indices, reference_point

LAST = 5
"""Finished trials that stay in sight."""

SCORED = ("finished", "recalled")

Past: TypeAlias = Iterable[tuple[int, str, Mapping[str, float]]]
"""Trials that ended before this run: number, state, values."""


@dataclass
class StageProgress:
    """One stage. `planned` is 0 when only time ends it."""

    name: str
    planned: int = 0
    goals: tuple[Goal, ...] = ()
    state: str = "waiting"
    outcomes: dict[int, str] = field(default_factory=dict[int, str])
    running: set[int] = field(default_factory=set[int])
    best: dict[str, tuple[float, int]] = field(default_factory=dict[str, tuple[float, int]])
    """Best feasible value of each optimised goal, and the trial that has it."""
    front: list[Mapping[str, float]] = field(default_factory=list[Mapping[str, float]])
    reference: list[float] | None = None
    """Hypervolume's corner, in loss form: `reference_point` of all feasible trials so far, as in the report.
    Where a goal has no `reference` it moves outwards with them."""
    hypervolume: float | None = None
    begun: float | None = None
    done_before: int = 0
    ended: float | None = None
    deadline: float | None = None
    _ends: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    """Least and greatest feasible value of each optimised goal."""

    @property
    def done(self) -> int:
        """Trials that have ended."""
        return len(self.outcomes)

    @property
    def counts(self) -> Counter[str]:
        """Ended trials by state."""
        return Counter(self.outcomes.values())

    @property
    def optimised(self) -> list[Goal]:
        """Goals with a direction."""
        return [goal for goal in self.goals if goal.direction is not None]

    def left(self, now: float) -> float | None:
        """Seconds that the stage still takes at the pace so far; None before there is one."""
        if self.begun is None or self.ended is not None:
            return None
        fresh = self.done - self.done_before
        pace = None
        if self.planned and fresh:
            pace = max(0, self.planned - self.done) * (now - self.begun) / fresh
        limit = max(0.0, self.deadline - time.time()) if self.deadline is not None else None
        known = [estimate for estimate in (pace, limit) if estimate is not None]
        return min(known, default=None)

    def add(self, number: int, state: str, values: Mapping[str, float]) -> None:
        """Count an ended trial."""
        self.running.discard(number)
        if number in self.outcomes:
            return
        self.outcomes[number] = state
        goals = self.optimised
        if state not in SCORED or any(goal.name not in values for goal in goals):
            return
        if not feasible(values, self.goals):
            return
        for goal in goals:
            value = values[goal.name]
            known = self.best.get(goal.name)
            if known is None or (value > known[0] if goal.direction == "maximize" else value < known[0]):
                self.best[goal.name] = (value, number)
        if len(goals) > 1:
            self._widen(values)

    def _widen(self, values: Mapping[str, float]) -> None:
        points = [*self.front, values]
        self.front = [points[index] for index in pareto_indices(points, self.goals)]
        for name, value in ((goal.name, values[goal.name]) for goal in self.optimised):
            least, greatest = self._ends.get(name, (value, value))
            self._ends[name] = min(least, value), max(greatest, value)
        corners = [{name: ends[side] for name, ends in self._ends.items()} for side in (0, 1)]
        self.reference = reference_point(corners, self.goals)
        self.hypervolume = hypervolume(self.front, self.goals, self.reference)

    def reference_text(self) -> str:
        """The reference point in the objectives' own sense, and where it comes from."""
        if self.reference is None:
            return ""
        parts = [
            f"{goal.name} {value if goal.direction == 'minimize' else -value:.4g}"
            for goal, value in zip(self.optimised, self.reference, strict=True)
        ]
        given = all(goal.reference is not None for goal in self.optimised)
        return f"from {', '.join(parts)}{'' if given else ', which moves with the worst trial'}"


class View(Protocol):
    """Shows progress. Called on the driver's main thread."""

    def job_started(self) -> None:
        """The job is in the catalog; Ray may have to start first."""

    def stage_started(self, stage: StageProgress) -> None:
        """A stage starts."""

    def trial_finished(self, stage: StageProgress, event: TrialEvent) -> None:
        """A trial ended."""

    def stage_finished(self, stage: StageProgress) -> None:
        """A stage ended."""

    def close(self) -> None:
        """Nothing more will be shown. May be called twice."""


class Progress:
    """A listener for one run of a job, and the state that a view shows.

    `past` gives, for a resumed job, the stage's trials that had ended before, by the stage's name.
    """

    def __init__(self, past: Callable[[str], Mapping[str, Past]] | None = None) -> None:
        self.lock = threading.Lock()
        self.job = ""
        self.stages: dict[str, StageProgress] = {}
        self.last: deque[tuple[str, TrialEvent]] = deque(maxlen=LAST)
        self.phase = "starting"
        self.begun = time.monotonic()
        self.view: View | None = None
        self._past = past
        self._history: Mapping[str, Past] = {}

    def stop(self) -> None:
        """The user wants the run to end."""
        self.phase = "stopping: what runs is interrupted and can be resumed; once more stops at once"

    @hookimpl
    def job_started(self, event: JobEvent) -> None:
        """See `hookspecs`."""
        with self.lock:
            self.job = event.job
            self.stages = {name: StageProgress(name) for name in event.stages}
            self._history = self._past(event.job) if self._past else {}
            for name, trials in self._history.items():
                stage = self.stages[name]
                for number, state, _ in trials:
                    stage.outcomes[number] = state
                if stage.outcomes:
                    stage.state = "done before"
            self.phase = "starting Ray"
        if self.view:
            self.view.job_started()

    @hookimpl
    def stage_started(self, event: StageEvent) -> None:
        """See `hookspecs`."""
        with self.lock:
            stage = self.stages[event.stage]
            stage.planned, stage.goals, stage.deadline = event.trials, event.goals, event.deadline
            stage.state, stage.begun = "running", time.monotonic()
            stage.outcomes.clear()
            for number, state, values in self._history.get(event.stage, ()):
                stage.add(number, state, values)
            stage.done_before = stage.done
            self.phase = ""
        if self.view:
            self.view.stage_started(stage)

    @hookimpl
    def trial_started(self, event: TrialEvent) -> None:
        """See `hookspecs`."""
        with self.lock:
            self.stages[event.stage].running.add(event.number)

    @hookimpl
    def trial_finished(self, event: TrialEvent) -> None:
        """See `hookspecs`."""
        with self.lock:
            stage = self.stages[event.stage]
            stage.add(event.number, event.state, event.values)
            self.last.append((event.stage, event))
        if self.view:
            self.view.trial_finished(stage, event)

    @hookimpl
    def stage_finished(self, event: StageEvent) -> None:
        """See `hookspecs`."""
        with self.lock:
            stage = self.stages[event.stage]
            stage.state, stage.ended = event.state, time.monotonic()
            stage.running.clear()
            if all(other.ended or other.state == "done before" for other in self.stages.values()):
                self.phase = "finishing: test scores, report, lineage"
        if self.view:
            self.view.stage_finished(stage)

    @hookimpl
    def job_finished(self, event: JobEvent) -> None:
        """See `hookspecs`."""
        if self.view:
            self.view.close()
