"""A job whose every plugin is found, built and checked, as `resolver` makes it of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from .candidate import Candidate
from .fingerprint import Fingerprint
from .objective import CombinedObjective, Goal, Objective, StaticObjective
from .parallel import CodedStrategy, ParallelStrategy
from .program import Program
from .registry import Registry
from .sampler import Sampler, SearchProblem
from .seeds import spawn
from .space import SearchSpace
from .spec import JobSpec, ResourceSpec, RetrySpec, StageSpec
from .task import Task


@dataclass(frozen=True)
class Stage:
    """One stage with its plugins. `goals` and `objectives` are empty unless it searches or takes."""

    index: int
    spec: StageSpec
    job_seed: int
    program: Program
    space: SearchSpace
    sampler: Sampler | None
    fingerprint: Fingerprint | None
    strategy: ParallelStrategy | None
    goals: tuple[Goal, ...]
    objectives: tuple[Objective, ...]
    resources: ResourceSpec
    retry: RetrySpec
    task: Task | None = None
    """The job's; None in a job that is broken anyway."""

    @property
    def problem(self) -> SearchProblem:
        """What the stage's sampler is asked to solve."""
        exact = {
            goal.name: partial(self._static, objective)
            for goal, objective in zip(self.goals, self.objectives, strict=False)
            if isinstance(objective, StaticObjective)
        }
        seed = spawn(self.job_seed, self.index, 0)
        return SearchProblem(self.space, self.goals, seed, self.spec.trials, exact)

    def _static(self, objective: StaticObjective, candidate: Candidate) -> float:
        assert self.task is not None
        return objective.compute(candidate, self.space, self.task.shape())

    def trial_seed(self, number: int) -> int:
        """Seed of trial `number`, the same whoever runs it and however often."""
        return spawn(self.job_seed, self.index, 1, number)

    def completed(self, values: Mapping[str, float]) -> dict[str, float]:
        """The values with those of every combined objective whose parts are among them."""
        known = dict(values)
        for goal, objective in zip(self.goals, self.objectives, strict=True):
            if isinstance(objective, CombinedObjective) and all(part in values for part in objective.parts):
                known[goal.name] = objective.combine(values)
        return known

    @property
    def batch(self) -> int:
        """Candidates handed over in one launch: as many as the program likes and the sampler can
        propose at once without loss, unless the file says.
        """
        if self.spec.batch is not None:
            return self.spec.batch
        if isinstance(self.strategy, CodedStrategy):
            return self.strategy.models
        if self.spec.workers or self.spec.early_stopping:
            return 1
        return min(self.program.batch, self.sampler.lookahead if self.sampler else self.program.batch)


@dataclass(frozen=True)
class Job:
    """A checked job. `spec` alone rebuilds it in another process (`resolve`)."""

    spec: JobSpec
    task: Task
    goals: tuple[Goal, ...]
    objectives: tuple[Objective, ...]
    stages: tuple[Stage, ...]
    registry: Registry

    @property
    def uses_task(self) -> bool:
        """Whether the task's data matters: the file names a task, or a program trains networks on it."""
        return self.spec.task is not None or any(stage.program.needs_network for stage in self.stages)

    def stage(self, name: str) -> Stage:
        """The stage called `name`."""
        return next(stage for stage in self.stages if stage.spec.name == name)


def stopped_by(stage: Stage) -> int:
    """Index of the goal that early stopping compares trials by: the named one, or the first optimised."""
    assert stage.spec.early_stopping is not None
    wanted = stage.spec.early_stopping.objective
    for index, goal in enumerate(stage.goals):
        if goal.name == wanted or (wanted is None and goal.direction is not None):
            return index
    return 0
