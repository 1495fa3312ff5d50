"""What the commands ask of the catalog: a job, its goals, its plan, and which trials count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import typer

from ..core.errors import JobNotFoundError
from ..core.objective import Goal
from ..scheduler.selection import pareto
from ..scheduler.settings import Settings
from ..storage.catalog import Catalog
from ..storage.models import TERMINAL_TRIAL_STATES, JobRow, StageRow, TrialRow
from ..storage.moved import follow

OVER = ("finished", "failed", "cancelled")
"""States of a job in which nothing more will happen by itself."""

OWN = ("propose", "static", "fingerprint", "recall", "launch", "record")
"""Parts of a trial's time that are Orchestrate's."""
OVERHEADS = ("propose", "static", "fingerprint", "recall", "launch", "run", "measure", "record")
"""All of them, in their order."""


@contextmanager
def opened(settings: Settings) -> Generator[Catalog]:
    """Open the catalog, which must be there; if its project was moved, its files are found again."""
    with Catalog.open(settings.catalog_url, create=False) as catalog:
        if former := follow(catalog, settings.home):
            typer.echo(f"this project was moved here from {former}: its paths were written anew", err=True)
        yield catalog


def find(catalog: Catalog, reference: str | None) -> JobRow:
    """The job that `reference` names, or the newest.

    Raises:
        JobNotFoundError: there is none.
    """
    if reference is not None:
        return catalog.job(reference)
    rows = catalog.jobs(limit=1)
    if not rows:
        raise JobNotFoundError("the catalog holds no job yet: `orchestrate submit JOB.yaml` makes one")
    return rows[0]


def goals_of(job: JobRow) -> tuple[Goal, ...]:
    """The job's goals, as they were when it was submitted."""
    return tuple(Goal(**goal) for goal in job.provenance.get("goals", ()))


def stage_spec(job: JobRow, stage: StageRow) -> Mapping[str, Any]:
    """The stage's part of the job file."""
    return job.spec["stages"][stage.number]


def searches(job: JobRow, stage: StageRow) -> bool:
    """Whether the stage compares candidates, so that it has a Pareto front."""
    spec = stage_spec(job, stage)
    return "sampler" in spec or "take" in spec


def planned(job: JobRow, stage: StageRow) -> int | None:
    """How many trials the stage is to have, when the file says so."""
    spec = stage_spec(job, stage)
    if "sampler" in spec:
        return spec.get("trials")
    take = spec.get("take", {})
    return take.get("pareto") or take.get("best") or 1


def over(counts: Mapping[str, int]) -> int:
    """Number of trials in a terminal state."""
    return sum(counts.get(state, 0) for state in TERMINAL_TRIAL_STATES)


@dataclass(frozen=True)
class Result:
    """A job's outcome as far as it stands: its last searching stage, its front, and what recall saved."""

    job: JobRow
    goals: tuple[Goal, ...]
    stage: StageRow | None
    front: Sequence[TrialRow]
    counts: Mapping[str, int]
    """All trials of the job, by state."""
    saved: float
    """Seconds of running that recalled trials didn't need."""


def result(catalog: Catalog, job: JobRow) -> Result:
    """Read a job's outcome."""
    goals = goals_of(job)
    stages = [stage for stage in catalog.stages(job.id) if searches(job, stage)]
    rows = catalog.trials(job.id)
    judged = [stage for stage in stages if any(row.stage_id == stage.id for row in rows)] or stages
    stage = judged[-1] if judged else None
    mine = [row for row in rows if stage is not None and row.stage_id == stage.id]
    front = pareto(mine, goals) if any(goal.direction for goal in goals) else []
    return Result(job, goals, stage, front, Counter(row.state for row in rows), _saved(catalog, rows))


def outcome_data(catalog: Catalog, job: JobRow) -> dict[str, Any]:
    """A job's outcome as data for scripts."""
    found = result(catalog, job)
    return {
        "id": job.id,
        "state": job.state,
        "reason": job.reason,
        "report": None,
        "trials": dict(found.counts),
        "saved_seconds": found.saved,
        "pareto": [
            {"number": row.number, "candidate": row.candidate, "values": row.values, "test": row.test}
            for row in found.front
        ],
    }


def _saved(catalog: Catalog, rows: Sequence[TrialRow]) -> float:
    known = {row.id: row for row in rows}
    total = 0.0
    for row in rows:
        if row.recalled_from is not None:
            source = known.get(row.recalled_from) or catalog.trial(row.recalled_from)
            known[source.id] = source
            total += sum(source.timings.get(part, 0.0) for part in ("launch", "run", "measure"))
    return total


def cost(rows: Sequence[TrialRow]) -> dict[str, float]:
    """Seconds that the trials spent in each part of their time, summed."""
    return {part: sum(row.timings.get(part, 0.0) for row in rows) for part in OVERHEADS}
