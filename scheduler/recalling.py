"""A stage's recall: in which namespace its prints are comparable, and which results may be served."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ..core.candidate import digest
from ..core.errors import CatalogError
from ..core.fingerprint import Key
from ..core.job import Job, Stage
from ..core.objective import CombinedObjective, MeasuredObjective, ReportedObjective, StaticObjective
from ..core.plugin import Plugin
from ..storage.catalog import Catalog
from ..storage.recall import RecallPolicy, familiar

TOOLKIT = "orchestrate.core.training"
"""What every training program here is made of: its text counts as the program's."""


def namespace(stage: Stage, job: Job) -> dict[str, Any]:
    """All that two prints must share for their results to be interchangeable; change one, and nothing is
    recalled. Seeds are left out: a recalled score is another draw of the same experiment.
    """
    assert stage.fingerprint is not None
    fidelity = stage.program.fidelity
    program = _identity(stage.program)
    if fidelity is not None:  # kept by evaluation instead, so that a longer run can answer a shorter one
        program["options"].pop(fidelity[0], None)
    name = job.spec.task_name if job.uses_task else ""
    return {
        "data": {"name": name, "digest": job.task.digest() if job.uses_task else "", "split": "validation"},
        "space": _identity(stage.space),
        "program": program,
        "workers": None if stage.strategy is None else _identity(stage.strategy),
        "code": {
            "digest": digest([_code(stage.program), _code(stage.space)]),
            "program": _version(job, stage.program),
            "space": _version(job, stage.space),
        },
        "metrics": [
            [goal.name, _identity(objective)]
            for goal, objective in zip(stage.goals, stage.objectives, strict=True)
            if not isinstance(objective, StaticObjective | CombinedObjective)
        ],
        "hasher": {
            **_identity(stage.fingerprint, stage.fingerprint.incidental),
            "version": stage.fingerprint.version,
        },
    }


def only_equal(stage: Stage) -> bool:
    """Whether only equal candidates can answer: the stage optimises or bounds a metric that the program
    says differs between candidates which compute the same.
    """
    return any(
        isinstance(objective, ReportedObjective) and objective.metric in stage.program.unshared
        for objective in stage.objectives
    )


def recall_policy(stage: Stage, fields: Mapping[str, Any]) -> RecallPolicy:
    """The rules by which a stage recalls in the namespace of `fields`."""
    spec = stage.spec.recall
    assert spec is not None
    assert stage.fingerprint is not None
    pairs = list(zip(stage.goals, stage.objectives, strict=True))
    equal = stage.fingerprint.exact or only_equal(stage)
    reported = {goal.name: one.metric for goal, one in pairs if isinstance(one, ReportedObjective)}
    measured = frozenset(goal.name for goal, one in pairs if isinstance(one, MeasuredObjective))
    shared = frozenset(reported) | (measured if equal else frozenset[str]())
    return RecallPolicy(
        context=digest(fields),
        scope=spec.scope,
        shared=shared,
        measured=frozenset() if equal else measured,
        unshared=frozenset() if stage.fingerprint.exact else stage.program.unshared,
        completed=stage.completed,
        lead=next((goal.name for goal in stage.goals if goal.direction and goal.name in shared), None),
        metrics=reported,
        steps=stage.program.fidelity[1] if stage.program.fidelity else None,
        **spec.model_dump(
            include={
                *("evaluations", "standard_error", "forget_every", "forget_probability", "max_classes"),
                *("ttl", "failures", "audit", "audit_tolerance"),
            }
        ),
    )


def familiarity(
    catalog: Catalog, policy: RecallPolicy | None, job_id: str
) -> Callable[[Sequence[Key]], bool]:
    """Ask the catalog whether some keys are all that a stage's recall needs; if it can't say, they aren't."""
    memory = policy.memory(job_id) if policy is not None else None

    def known(keys: Sequence[Key]) -> bool:
        try:
            return memory is not None and familiar(catalog.engine, memory, keys)
        except CatalogError:
            return False

    return known


def _identity(plugin: Plugin, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    return {"name": plugin.name, "options": plugin.options.model_dump(mode="json", exclude=set(without))}


def _version(job: Job, plugin: Plugin) -> str:
    found = (known.source for known in job.registry if known.plugin is type(plugin))
    return next((f"{source.distribution} {source.version}" for source in found), "")


def _code(plugin: Plugin) -> str:
    """Digest of the text that a plugin is made of: its package, or the file of a `python:` one."""
    module = type(plugin).__module__
    return digest([_text(module.rpartition(".")[0] or module), _text(module), _text(TOOLKIT)])


@cache
def _text(module: str) -> str:
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return ""
    path = Path(file)
    sha = hashlib.sha256()
    for part in sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]:
        sha.update(part.name.encode() + b"\0" + part.read_bytes() + b"\0")
    return sha.hexdigest()
