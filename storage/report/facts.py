"""Reads everything that a report, or a job's lineage, tells of a job: rows, goals, fronts, progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np

from ...core.objective import Goal
from ...core.pareto import feasible, hypervolume, losses, pareto_indices, reference_point
from ...core.spec import JobSpec, StageSpec
from ..catalog import Catalog
from ..models import ArtifactRow, JobRow, StageRow, TrialRow
from .quality import quality

SCORED = ("finished", "recalled")


@dataclass(frozen=True)
class Progress:
    """Where a search stood when its `count`-th scored trial came in."""

    count: int
    at: datetime
    best: Mapping[str, float]
    """Best feasible value so far, by goal."""
    hypervolume: float | None
    """None unless there are two goals or more."""
    indicators: Mapping[str, float] = field(default_factory=dict[str, float])
    """Quality indicators by name, at some counts: see `quality`. Empty elsewhere, and with one goal."""


@dataclass(frozen=True)
class StageFacts:
    """One stage with its trials. `goals` is empty unless it searches or takes."""

    row: StageRow
    spec: StageSpec
    trials: Sequence[TrialRow]
    goals: tuple[Goal, ...]

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.row.name

    @cached_property
    def counts(self) -> Counter[str]:
        """Number of trials by state."""
        return Counter(trial.state for trial in self.trials)

    @cached_property
    def scored(self) -> list[TrialRow]:
        """Trials with a value for every goal, by number."""
        names = {goal.name for goal in self.goals}
        return [t for t in self.trials if self.goals and t.state in SCORED and names <= set(t.values)]

    @cached_property
    def front(self) -> list[TrialRow]:
        """The feasible, non-dominated trials, best in the first optimised goal first."""
        return [self.scored[i] for i in pareto_indices([t.values for t in self.scored], self.goals)]

    def leading(self, goals: Sequence[Goal]) -> dict[str, float]:
        """What the stage reached, by goal: the values of its best trial; where it compares no candidates,
        what its last finished trial says of them.
        """
        if self.goals:
            return dict(self.front[0].values) if self.front else {}
        done = [trial for trial in self.trials if trial.state in SCORED]
        known = {**done[-1].metrics, **done[-1].values} if done else {}
        return {goal.name: known[goal.name] for goal in goals if goal.name in known}

    @cached_property
    def progress(self) -> list[Progress]:
        """How the search went, one entry a scored trial, in the order in which they ended."""
        ordered = sorted(self.scored, key=lambda trial: (trial.ended_at or trial.created_at, trial.number))
        inside = [trial.values for trial in ordered if feasible(trial.values, self.goals)]
        optimised = [goal for goal in self.goals if goal.direction is not None]
        corner = reference_point(inside, self.goals) if inside and len(optimised) > 1 else None
        measured = quality(ordered, self.goals, corner) if corner is not None else {}
        best: dict[str, float] = {}
        front: list[Mapping[str, float]] = []
        volume = 0.0
        steps: list[Progress] = []
        for count, trial in enumerate(ordered, start=1):
            if feasible(trial.values, self.goals):
                for goal in optimised:
                    pick = max if goal.direction == "maximize" else min
                    best[goal.name] = pick(
                        best.get(goal.name, trial.values[goal.name]), trial.values[goal.name]
                    )
                if corner is not None and _advances(trial.values, front, self.goals):
                    kept = [*front, trial.values]
                    front = [kept[i] for i in pareto_indices(kept, self.goals)]
                    volume = hypervolume(front, self.goals, corner)
            at = trial.ended_at or trial.created_at
            known = volume if corner is not None else None
            steps.append(Progress(count, at, dict(best), known, measured.get(count, {})))
        return steps

    @cached_property
    def diagnostics(self) -> dict[str, list[tuple[int, float]]]:
        """The sampler's own metrics by name: (number of asks or training step, value) in their order."""
        found: dict[str, list[tuple[int, float]]] = {}
        for entry in self.row.summary.get("diagnostics", ()):
            for name, curve in diagnosed(entry):
                found.setdefault(name, []).extend(curve)
        return found

    @cached_property
    def trained(self) -> set[str]:
        """Those of the sampler's own metrics that are curves by training step."""
        entries = self.row.summary.get("diagnostics", ())
        return {name for entry in entries for name, value in entry["metrics"].items() if _is_curve(value)}


@dataclass(frozen=True)
class JobFacts:
    """A job with all that belongs to it."""

    row: JobRow
    spec: JobSpec
    goals: tuple[Goal, ...]
    stages: tuple[StageFacts, ...]
    artifacts: Mapping[int | None, Sequence[ArtifactRow]]
    """By trial id; None for the job's own."""

    @property
    def optimised(self) -> list[Goal]:
        """The goals that have a direction; the others are mere bounds."""
        return [goal for goal in self.goals if goal.direction is not None]

    @property
    def axes(self) -> list[Goal]:
        """The first two optimised goals (or the only one) as x and y: a cost against a quality."""
        pair = self.optimised[:2]
        if [goal.direction for goal in pair] == ["maximize", "minimize"]:
            pair.reverse()
        return pair

    @property
    def answer(self) -> StageFacts | None:
        """The stage whose front is the job's result: the last one that searches or takes."""
        return next((stage for stage in reversed(self.stages) if stage.goals), None)

    @property
    def search(self) -> StageFacts | None:
        """The stage whose progress is worth a look: of those that search, the one with most scores."""
        searching = [stage for stage in self.stages if stage.goals and stage.spec.sampler]
        return max(searching, key=lambda stage: len(stage.scored), default=self.answer)

    @property
    def chosen(self) -> Sequence[TrialRow]:
        """The trials that the job chose."""
        return self.answer.front if self.answer else []

    def files(self, trial: TrialRow) -> list[ArtifactRow]:
        """A trial's artifacts, or those of the trial of this job that it was recalled from."""
        return list(self.artifacts.get(trial.recalled_from or trial.id, ()))


def read(catalog: Catalog, job_id: str, state: str | None = None, reason: str = "") -> JobFacts:
    """Read a job from the catalog. `state` and `reason` are those it is about to end in.

    Raises:
        JobNotFoundError: there is none.
    """
    row = catalog.job(job_id)
    if state is not None:
        row.state, row.reason = state, reason
    spec = JobSpec.model_validate(row.spec)
    goals = tuple(Goal(**goal) for goal in row.provenance.get("goals", []))
    specs = {stage.name: stage for stage in spec.stages}
    trials: dict[int, list[TrialRow]] = {}
    for trial in catalog.trials(row.id):
        trials.setdefault(trial.stage_id, []).append(trial)
    artifacts: dict[int | None, list[ArtifactRow]] = {}
    for artifact in catalog.artifacts(row.id):
        artifacts.setdefault(artifact.trial_id, []).append(artifact)
    stages: list[StageFacts] = []
    for stage in catalog.stages(row.id):
        known = specs[stage.name]
        searches = known.sampler is not None or known.take is not None
        stages.append(StageFacts(stage, known, trials.get(stage.id, []), goals if searches else ()))
    facts = JobFacts(row, spec, goals, tuple(stages), artifacts)
    for trial in facts.chosen:  # recalled from another job: its files lie there
        source = trial.recalled_from
        if source is not None and source not in artifacts:
            artifacts[source] = catalog.artifacts_of(source)
    return facts


def diagnosed(entry: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[int, float]]]]:
    """An entry of a stage's `diagnostics` as curves by name: one point, or those of a training."""
    for name, value in entry["metrics"].items():
        yield name, [(step, one) for step, one in value] if _is_curve(value) else [(entry["step"], value)]


def _is_curve(value: object) -> bool:
    return isinstance(value, list | tuple)


def _advances(
    point: Mapping[str, float], front: Sequence[Mapping[str, float]], goals: Sequence[Goal]
) -> bool:
    """Whether no point of the front is at least as good in every goal."""
    if not front:
        return True
    table = losses([*front, point], goals)
    return not bool(np.any(np.all(table[:-1] <= table[-1], axis=1)))
