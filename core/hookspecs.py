"""The hooks that plugins implement. Project name and entry-point group: `orchestrate`, `orchestrate.plugins`.

The registration hooks return *classes*; they are called once a process, when the registry is made,
in the driver, in every worker and in the CLI. Keep a plugin's module cheap to import: no torch at the
top, since a job file is checked long before anything is trained.

The life-cycle hooks are for listeners. They are called in the driver's process, on its main thread,
after the catalog has committed what they tell; an exception in one is logged and ignored. A listener
that is slow slows the job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pluggy

from .candidate import Candidate
from .fingerprint import Fingerprint
from .objective import Goal, Objective
from .parallel import ParallelStrategy
from .plugin import Kind
from .program import Program
from .sampler import Sampler
from .space import SearchSpace
from .task import Task

PROJECT = "orchestrate"
GROUP = "orchestrate.plugins"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Schedule: TypeAlias = Callable[[int], float]
"""Learning-rate factor (usually 0 to 1) by 0-based optimiser step."""

ScheduleFactory: TypeAlias = Callable[..., Schedule]
"""Makes a schedule: `factory(total_steps, **options)`."""


@dataclass(frozen=True)
class TrialEvent:
    """What a listener learns of one trial. `state` is one of the catalog's trial states."""

    job: str
    stage: str
    number: int
    candidate: Candidate
    state: str
    values: Mapping[str, float]
    """Objective values known so far, by goal name."""
    reason: str = ""


@dataclass(frozen=True)
class StageEvent:
    """What a listener learns of one stage. `trials` is the planned number."""

    job: str
    stage: str
    trials: int
    goals: tuple[Goal, ...]
    concurrency: int = 1
    state: str = "running"
    deadline: float | None = None
    """Unix time at which the stage's time budget ends."""


@dataclass(frozen=True)
class JobEvent:
    """What a listener learns of one job."""

    job: str
    name: str
    stages: tuple[str, ...]
    state: str = "running"
    reason: str = ""


# Registration -----------------------------------------------------------------------------------


@hookspec
def tasks() -> Sequence[type[Task]]:
    """Return task classes. Each needs `name`, `summary` and, if it takes options, an options model.

    Called once a process. All plugins' lists are joined; two classes of one kind with one name are an
    error that names both distributions. Since 0.1.
    """
    raise NotImplementedError


@hookspec
def search_spaces() -> Sequence[type[SearchSpace]]:
    """Return search space classes. See `tasks` for the rules. Since 0.1."""
    raise NotImplementedError


@hookspec
def samplers() -> Sequence[type[Sampler]]:
    """Return sampler classes. See `tasks` for the rules. Since 0.1."""
    raise NotImplementedError


@hookspec
def objectives() -> Sequence[type[Objective]]:
    """Return objective classes (static, reported or measured). See `tasks` for the rules. Since 0.1."""
    raise NotImplementedError


@hookspec
def programs() -> Sequence[type[Program]]:
    """Return program classes. See `tasks` for the rules. Since 0.1."""
    raise NotImplementedError


@hookspec
def fingerprints() -> Sequence[type[Fingerprint]]:
    """Return fingerprint classes, for `recall` in a job file. See `tasks` for the rules. Since 0.1."""
    raise NotImplementedError


@hookspec
def parallel_strategies() -> Sequence[type[ParallelStrategy]]:
    """Return parallel strategy classes, for `workers` in a job file. See `tasks` for the rules. Since 0.1."""
    raise NotImplementedError


@hookspec
def schedules() -> Mapping[str, ScheduleFactory]:
    """Return learning-rate schedules by name, for every training program. See `tasks` for the rules.

    Since 0.1.
    """
    raise NotImplementedError


# Life cycle -------------------------------------------------------------------------------------


@hookspec
def job_started(event: JobEvent) -> None:
    """A job starts or is resumed: after its rows are in the catalog, before its first stage. Since 0.1."""


@hookspec
def stage_started(event: StageEvent) -> None:
    """A stage starts or is resumed, before its first ask. Since 0.1."""


@hookspec
def trial_started(event: TrialEvent) -> None:
    """A trial is handed to Ray (again, after a retry). Recalled and infeasible trials never start.

    Since 0.1.
    """


@hookspec
def trial_reported(event: TrialEvent, metrics: Mapping[str, float], step: int) -> None:
    """A running trial reported metrics after a step. Since 0.1."""


@hookspec
def trial_finished(event: TrialEvent) -> None:
    """A trial reached a terminal state, whichever. Called once for each trial. Since 0.1."""


@hookspec
def stage_finished(event: StageEvent) -> None:
    """A stage ended; `event.state` says how. Since 0.1."""


@hookspec
def job_finished(event: JobEvent) -> None:
    """A job ended, was cancelled, paused or interrupted; `event.state` says which. Since 0.1."""


REGISTRATION: Mapping[Kind, str] = {
    "task": "tasks",
    "space": "search_spaces",
    "sampler": "samplers",
    "objective": "objectives",
    "program": "programs",
    "fingerprint": "fingerprints",
    "parallel strategy": "parallel_strategies",
}
"""Plugin kind to the hook that registers it."""
