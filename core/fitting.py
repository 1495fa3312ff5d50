"""Whether a stage's parts fit together: asked of the parts before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from .candidate import Candidate
from .errors import OrchestrateError, near_misses
from .job import Stage, stopped_by
from .objective import CombinedObjective, ReportedObjective, StaticObjective
from .parallel import CodedStrategy
from .spec import EarlyStoppingSpec
from .task import Task

Misfit: TypeAlias = tuple[tuple[str | int, ...], str, str]
"""Path in the job file, message, remedy."""


def misfits(stage: Stage, task: Task) -> Iterator[Misfit]:
    """All that keeps the stage's program, space, objectives, sampler and workers from working together."""
    path = ("stages", stage.index)
    yield from _networks(stage)
    if stage.spec.early_stopping:
        yield from _stopping(stage, stage.spec.early_stopping)
    yield from _refused((*path, "program"), lambda: stage.program.check(stage.space, task))
    yield from _workers(stage)
    if stage.sampler is not None:
        yield from _refused((*path, "sampler"), lambda: _start(stage))


def _refused(path: tuple[str | int, ...], check: Callable[[], None]) -> Iterator[Misfit]:
    try:
        check()
    except OrchestrateError as error:
        yield path, str(error).rstrip("."), ""


def _networks(stage: Stage) -> Iterator[Misfit]:
    if stage.space.builds:
        return
    none = f"needs networks, and space {stage.space.name!r}"
    if stage.program.needs_network:
        yield (
            ("stages", stage.index, "program"),
            f"program {stage.spec.program.name!r} {none} builds none",
            "",
        )
    for index, (goal, objective) in enumerate(zip(stage.goals, stage.objectives, strict=True)):
        if isinstance(objective, StaticObjective) and objective.needs_network:
            message = f"{goal.name!r} {none} of stage {stage.spec.name!r} builds none"
            yield ("objectives", index), message, ""


def _stopping(stage: Stage, stopping: EarlyStoppingSpec) -> Iterator[Misfit]:
    path = ("stages", stage.index, "early_stopping")
    names = [goal.name for goal in stage.goals]
    if not stage.program.reports_steps:
        message = f"program {stage.spec.program.name!r} doesn't report by step"
        yield path, message, "Remove early_stopping."
    if stopping.objective and stopping.objective not in names:
        message = f"no objective is called {stopping.objective!r}"
        yield (*path, "objective"), message, near_misses(stopping.objective, names)
    if stage.goals and not _known_early(stage, index := stopped_by(stage)):
        message = f"objective {names[index]!r} is not reported by step"
        yield path, message, "Name a reported one as `objective`."
    if stopping.name != "asha" and stage.batch > 1:
        message = f"candidates that train {stage.batch} at a time are stopped early by asha only"
        yield (*path, "name"), message, "Take asha."


def _known_early(stage: Stage, index: int) -> bool:
    """Whether the objective has a value at each report: it is reported, or combined from what is known."""
    kinds = {goal.name: objective for goal, objective in zip(stage.goals, stage.objectives, strict=True)}
    objective = stage.objectives[index]
    if isinstance(objective, CombinedObjective):
        parts = [kinds[part] for part in objective.parts]
        return all(isinstance(part, ReportedObjective | StaticObjective) for part in parts)
    return isinstance(objective, ReportedObjective)


def _workers(stage: Stage) -> Iterator[Misfit]:
    if stage.strategy is None or stage.spec.workers is None:
        return
    path = ("stages", stage.index, "workers")
    if stage.spec.workers.processes > 1 and not isinstance(stage.strategy, CodedStrategy):
        message = f"{stage.strategy.name!r} makes one process of each worker"
        yield (*path, "processes"), message, "Raise `count` instead."
    workers, models = stage.spec.workers.count, stage.batch if stage.goals else 1
    yield from _refused((*path, "strategy"), partial(stage.strategy.check, workers, models))


def _start(stage: Stage) -> None:
    """Let a throw-away sampler see the problem, since it may refuse it."""
    assert stage.sampler is not None
    key = Candidate.digest.func if stage.fingerprint else None  # it only asks whether there is one
    type(stage.sampler)(stage.sampler.options).start(replace(stage.problem, key=key))
