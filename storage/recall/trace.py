"""Where a trial's score came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from ..engine import reading
from ..models import ClassRow, EvaluationRow, HitRow, StageRow, TombstoneRow, TrialRow


@dataclass(frozen=True)
class Source:
    """An evaluation of the trial's class, and the trial that made it."""

    evaluation_id: int
    trial_id: int
    job_id: str
    stage: str
    number: int
    seed: int
    status: str
    values: Mapping[str, float]
    seconds: float
    equal: bool
    """Whether it is of the very same candidate."""
    invalid: str | None
    """Why it is served no more, if it was invalidated."""
    served: bool
    """Whether the trial's score is made of it."""


@dataclass(frozen=True)
class Served:
    """What recall knows of a trial. `tier` is that of the key which led to the class."""

    trial_id: int
    class_id: int
    tier: str
    state: str
    token: str | None
    members: int
    """Trials of the class, in all jobs."""
    hits: int
    values: Mapping[str, float] | None
    """What it was served; None for a trial that ran by itself."""
    audited: bool
    differences: Mapping[str, float] | None
    hash_seconds: float
    saved_seconds: float
    waited_seconds: float
    invalid: str | None
    sources: tuple[Source, ...]


def trace(engine: Engine, trial_id: int) -> Served | None:
    """Find out what a trial's score is made of; None for one that recall never saw."""
    with reading(engine) as session:
        trial = session.get(TrialRow, trial_id)
        if trial is None or trial.class_id is None:
            return None
        found = session.get_one(ClassRow, trial.class_id)
        hit = session.get(HitRow, trial_id)
        served = set(hit.served) if hit is not None else set[int]()
        rows = session.execute(
            select(EvaluationRow, TrialRow, StageRow, TombstoneRow.reason)
            .join(TrialRow, TrialRow.id == EvaluationRow.trial_id)
            .join(StageRow, StageRow.id == TrialRow.stage_id)
            .join(TombstoneRow, TombstoneRow.id == EvaluationRow.tombstone_id, isouter=True)
            .where(EvaluationRow.class_id == found.id)
            .order_by(EvaluationRow.id)
        )
        sources = tuple(
            Source(
                *(one.id, source.id, stage.job_id, stage.name, source.number, source.seed, one.status),
                *(one.values, one.seconds, source.digest == trial.digest, reason, one.id in served),
            )
            for one, source, stage, reason in rows
        )
        members = session.scalar(select(func.count()).where(TrialRow.class_id == found.id)) or 0
        buried = session.get(TombstoneRow, hit.tombstone_id) if hit and hit.tombstone_id else None
        return Served(
            trial_id=trial_id,
            class_id=found.id,
            tier=hit.tier if hit else trial.tier or "",
            state=found.state,
            token=found.token,
            members=members,
            hits=found.hits,
            values=hit.values if hit else None,
            audited=bool(hit and hit.audited),
            differences=hit.differences if hit else None,
            hash_seconds=hit.hash_seconds if hit else float(trial.timings.get("fingerprint", 0.0)),
            saved_seconds=hit.saved_seconds if hit else 0.0,
            waited_seconds=hit.waited_seconds if hit else 0.0,
            invalid=buried.reason if buried else None,
            sources=sources,
        )
