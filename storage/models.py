"""The catalog's tables. What each one means; nothing of how it is read or written (see `catalog`).

Times are UTC, from the database's clock where they decide anything (leases, claims) and from the
driver's where they only inform. JSON columns hold plain data, never anything to be unpickled.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, DateTime, ForeignKey, Index, MetaData, String, Text, UniqueConstraint, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

PREFIX = "orchestrate_"
VERSION_TABLE = "orchestrate_alembic_version"

JOB_STATES = ("created", "running", "interrupted", "paused", "finished", "failed", "cancelled")
STAGE_STATES = ("created", "running", "finished", "failed", "cancelled")
ACTIVE_TRIAL_STATES = ("queued", "running")
TERMINAL_TRIAL_STATES = ("finished", "recalled", "infeasible", "pruned", "failed", "lost", "cancelled")

Json = dict[str, Any]


class Base(DeclarativeBase):
    """Declarative base: constraint names are fixed, so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        Json: JSON(),
        list[Any]: JSON(),
        datetime: DateTime(timezone=True),
    }


class JobRow(Base):
    """A submitted job. Its driver owns it by a lease: writes carry `lease_token`, old ones are refused."""

    __tablename__ = PREFIX + "jobs"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), index=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    reason: Mapped[str] = mapped_column(Text, default="")
    spec: Mapped[Json]
    """The job file as data, overrides applied."""
    text: Mapped[str] = mapped_column(Text)
    """The job file as written."""
    seed: Mapped[int]
    provenance: Mapped[Json]
    """Versions, plugin sources, code commit, host, user, task digest."""
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    cancel_requested: Mapped[bool] = mapped_column(default=False, server_default=false())
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_token: Mapped[int] = mapped_column(default=0)
    lease_expires_at: Mapped[datetime | None]


class StageRow(Base):
    """One stage of a job."""

    __tablename__ = PREFIX + "stages"
    __table_args__ = (UniqueConstraint("job_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey(JobRow.id), index=True)
    number: Mapped[int]
    name: Mapped[str] = mapped_column(String(100))
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="")
    context: Mapped[str] = mapped_column(String(32), default="")
    """Digest of everything that two prints must share to be comparable: recall's namespace."""
    summary: Mapped[Json]
    """Counts, best values and hypervolume once it has ended."""
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class TrialRow(Base):
    """One candidate in one stage. A terminal state never changes."""

    __tablename__ = PREFIX + "trials"
    __table_args__ = (UniqueConstraint("stage_id", "number"), Index(None, "stage_id", "state"))

    id: Mapped[int] = mapped_column(primary_key=True)
    stage_id: Mapped[int] = mapped_column(ForeignKey(StageRow.id), index=True)
    number: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="")
    candidate: Mapped[Json]
    digest: Mapped[str] = mapped_column(String(32))
    seed: Mapped[int]
    attempts: Mapped[int] = mapped_column(default=0)
    metrics: Mapped[Json]
    """All that the program reported at its end."""
    values: Mapped[Json]
    """The objectives' values by goal name: static ones from the start, the others at the end."""
    test: Mapped[Json | None]
    """Scores on the test split, for chosen candidates."""
    keys: Mapped[list[Any]]
    """The print's keys, as [tier, digest] pairs."""
    recalled_from: Mapped[int | None] = mapped_column(ForeignKey(PREFIX + "trials.id"))
    waits_for: Mapped[int | None] = mapped_column(ForeignKey(PREFIX + "trials.id"))
    """While queued: the running trial, of this job or another, whose result it will share."""
    timings: Mapped[Json]
    """Seconds: propose, fingerprint, launch, run, record."""
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class AttemptRow(Base):
    """One launch of a trial, and how it ended: retries leave their causes here."""

    __tablename__ = PREFIX + "attempts"
    __table_args__ = (UniqueConstraint("trial_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    trial_id: Mapped[int] = mapped_column(ForeignKey(TrialRow.id), index=True)
    number: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    """running, finished, pruned, failed, lost, interrupted or cancelled."""
    error: Mapped[Json | None]
    """type, message, traceback, frame (file:line of the innermost user frame)."""
    node: Mapped[str] = mapped_column(String(200), default="")
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class EventRow(Base):
    """Asks and tells in their order: what restores a sampler."""

    __tablename__ = PREFIX + "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    stage_id: Mapped[int] = mapped_column(ForeignKey(StageRow.id), index=True)
    trial_id: Mapped[int] = mapped_column(ForeignKey(TrialRow.id))
    kind: Mapped[str] = mapped_column(String(4))
    """ask or tell."""


class ReportRow(Base):
    """Metrics that a trial reported after a step. The first write of (trial, step) counts."""

    __tablename__ = PREFIX + "reports"

    trial_id: Mapped[int] = mapped_column(ForeignKey(TrialRow.id), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    metrics: Mapped[Json]
    at: Mapped[datetime]


class ArtifactRow(Base):
    """A file made by a trial (or by the job, when `trial_id` is null)."""

    __tablename__ = PREFIX + "artifacts"

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey(JobRow.id), index=True)
    trial_id: Mapped[int | None] = mapped_column(ForeignKey(TrialRow.id), index=True)
    kind: Mapped[str] = mapped_column(String(100))
    uri: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int]
    created_at: Mapped[datetime]


class EvaluationRow(Base):
    """A result that recall may serve: one row for each key of each evaluated candidate."""

    __tablename__ = PREFIX + "evaluations"
    __table_args__ = (Index(None, "context", "key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    context: Mapped[str] = mapped_column(String(32))
    key: Mapped[str] = mapped_column(String(64))
    tier: Mapped[str] = mapped_column(String(16))
    trial_id: Mapped[int] = mapped_column(ForeignKey(TrialRow.id), index=True)
    job_id: Mapped[str] = mapped_column(ForeignKey(JobRow.id))
    metrics: Mapped[Json]
    values: Mapped[Json]
    seconds: Mapped[float]
    created_at: Mapped[datetime]


class ClaimRow(Base):
    """A fingerprint in flight: whoever holds the row trains it, the others wait for the result."""

    __tablename__ = PREFIX + "claims"

    context: Mapped[str] = mapped_column(String(32), primary_key=True)
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey(JobRow.id), index=True)
    trial_id: Mapped[int] = mapped_column(ForeignKey(TrialRow.id))
    """A claim lives as long as its job's lease."""


class OutboxRow(Base):
    """A change to be mirrored to MLflow, written in the transaction that makes the change.

    The row says *what* changed; the recorder reads *how* from the other tables, so a row delivered
    twice does no harm.
    """

    __tablename__ = PREFIX + "outbox"
    __table_args__ = (Index(None, "job_id", "done_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey(JobRow.id))
    kind: Mapped[str] = mapped_column(String(20))
    """job_started, job_ended, stage_started, stage_ended, trial_started, trial_ended, trial_tested."""
    stage_id: Mapped[int | None] = mapped_column(ForeignKey(StageRow.id))
    trial_id: Mapped[int | None] = mapped_column(ForeignKey(TrialRow.id))
    created_at: Mapped[datetime]
    done_at: Mapped[datetime | None]


class MirrorRow(Base):
    """Which MLflow run, experiment or model mirrors what: `entity` is like job:ID, stage:7, trial:42."""

    __tablename__ = PREFIX + "mirrors"

    tracking_uri: Mapped[str] = mapped_column(String(500), primary_key=True)
    entity: Mapped[str] = mapped_column(String(100), primary_key=True)
    mirror_id: Mapped[str] = mapped_column(String(100))
