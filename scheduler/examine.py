"""Examines a candidate before any launch: its static objectives, its bounds, its fingerprint.

Runs off the driver's main thread, since building a network or hashing takes its time.
"""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.candidate import Candidate, digest
from ..core.fingerprint import Key
from ..core.job import Job, Stage
from ..core.objective import CombinedObjective, Goal, StaticObjective
from ..core.plugin import Plugin
from ..core.registry import PREFIX
from ..core.task import SearchView
from .trial import describe, finite


@dataclass(frozen=True)
class Examination:
    """What is known of a candidate before it runs."""

    values: Mapping[str, float] = field(default_factory=dict[str, float])
    keys: tuple[Key, ...] = ()
    infeasible: str | None = None
    """Which bound it breaks, when it does."""
    error: Mapping[str, Any] | None = None
    """What went wrong: the candidate's own code failed."""
    seconds: float = 0.0


def examine(stage: Stage, job: Job, candidate: Candidate) -> Examination:
    """Compute the candidate's static objectives and, where it is feasible, its print."""
    begun = time.perf_counter()
    values: dict[str, float] = {}
    try:
        for goal, objective in zip(stage.goals, stage.objectives, strict=True):
            if isinstance(objective, StaticObjective):
                value = objective.compute(candidate, stage.space, job.task.shape())
                values.update(finite({goal.name: value}))
        values = stage.completed(values)
        broken = _broken_bound(values, stage.goals)
        keys: tuple[Key, ...] = ()
        if broken is None and stage.fingerprint is not None:
            keys = stage.fingerprint.compute(candidate, stage.space, SearchView(job.task)).keys
    except Exception as error:  # noqa: BLE001 - a candidate that can't be built is a failed trial, not a failed job
        return Examination(values, error=describe(error), seconds=time.perf_counter() - begun)
    return Examination(values, keys, broken, seconds=time.perf_counter() - begun)


def _broken_bound(values: Mapping[str, float], goals: tuple[Goal, ...]) -> str | None:
    for goal in goals:
        if goal.name in values and goal.violation(values[goal.name]) > 0:
            bound = f"max {goal.maximum:g}" if goal.maximum is not None else ""
            if goal.minimum is not None and values[goal.name] < goal.minimum:
                bound = f"min {goal.minimum:g}"
            return f"{goal.name} {values[goal.name]:g} breaks {bound}"
    return None


def context_digest(stage: Stage, job: Job) -> str:
    """Digest of all that two prints must share for their results to be interchangeable.

    Task data, space, program, the objectives that aren't recomputed, and the code that made them. Seeds
    are left out: a recalled score is another draw of the same experiment.
    """
    measured = [
        [goal.name, _identity(objective)]
        for goal, objective in zip(stage.goals, stage.objectives, strict=True)
        if not isinstance(objective, StaticObjective | CombinedObjective)
    ]
    return digest(
        {
            "task": [job.spec.task_name, job.task.digest() if job.uses_task else ""],
            "space": _identity(stage.space),
            "program": [_identity(stage.program), _version(job, stage)],
            "objectives": measured,
            "fingerprint": [_identity(stage.fingerprint), stage.fingerprint.version]
            if stage.fingerprint
            else None,
        }
    )


def _identity(plugin: Plugin | None) -> Any:
    return None if plugin is None else [plugin.name, plugin.options.model_dump(mode="json")]


def _version(job: Job, stage: Stage) -> str:
    """Version of the program's code: its distribution's, or its module's text for `python:` ones."""
    name = stage.spec.program.name
    source = job.registry.get("program", name).source
    if not name.startswith(PREFIX):
        return f"{source.distribution} {source.version}"
    module = __import__(source.module, fromlist=["_"])
    return hashlib.sha256(inspect.getsource(module).encode()).hexdigest()
