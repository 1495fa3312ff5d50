"""The catalog's tables. What each one means; nothing of how it is read (`catalog`) or written (`ledger`).

Times inform: they are UTC, from the driver's clock. The one time that decides anything, a lease's end, is
in seconds of the database's clock. JSON columns hold plain data, never anything to be unpickled.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar, cast

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

PREFIX = "orchestrate_"
VERSION_TABLE = "orchestrate_alembic_version"

JOB_STATES = ("created", "running", "interrupted", "paused", "finished", "failed", "cancelled")
STAGE_STATES = ("created", "running", "finished", "failed", "cancelled")
ACTIVE_TRIAL_STATES = ("queued", "running")
TERMINAL_TRIAL_STATES = ("finished", "recalled", "infeasible", "pruned", "failed", "lost", "cancelled")

Json = dict[str, Any]


class Utc(TypeDecorator[datetime]):
    """A moment: aware on its way in, UTC on its way out (SQLite forgets the zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn it to UTC."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"the time {value} has no zone")
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class SafeText(TypeDecorator[str]):
    """Text from anywhere, such as a user's exception: what PostgreSQL doesn't keep (NUL) or UTF-8 has no
    bytes for (lone surrogates) is written out as an escape.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Write out what can't be kept."""
        if value is None:
            return None
        return value.replace("\0", "\\0").encode(errors="backslashreplace").decode()


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
        Json: JSON(none_as_null=True),
        list[Any]: JSON(),
        datetime: Utc(),
        float: Float(53),
    }


class JobRow(Base):
    """A submitted job. Its driver owns it by a lease: writes carry `lease_token`, old ones are refused."""

    __tablename__ = PREFIX + "jobs"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), index=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    reason: Mapped[str] = mapped_column(SafeText, default="")
    spec: Mapped[Json]
    """The job file as data, overrides applied."""
    text: Mapped[str] = mapped_column(SafeText)
    """The job file as written."""
    seed: Mapped[int] = mapped_column(BigInteger)
    provenance: Mapped[Json]
    """Versions, plugin sources, code commit, host, user, task digest."""
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    cancel_requested: Mapped[bool] = mapped_column(default=False, server_default=false())
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_token: Mapped[int] = mapped_column(default=0)
    lease_expires_at: Mapped[float | None]
    """Seconds since 1970 on the database's clock."""


class StageRow(Base):
    """One stage of a job."""

    __tablename__ = PREFIX + "stages"
    __table_args__ = (UniqueConstraint("job_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey(JobRow.id))
    number: Mapped[int]
    name: Mapped[str] = mapped_column(String(100))
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(SafeText, default="")
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
    stage_id: Mapped[int] = mapped_column(ForeignKey(StageRow.id))
    number: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(SafeText, default="")
    candidate: Mapped[Json]
    digest: Mapped[str] = mapped_column(String(32))
    seed: Mapped[int] = mapped_column(BigInteger)
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
    """While queued: the trial, of this job or another, whose result it will share."""
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
    trial_id: Mapped[int] = mapped_column(ForeignKey(TrialRow.id))
    number: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    """running, finished, pruned, failed, lost, interrupted or cancelled."""
    error: Mapped[Json | None]
    """type, message, traceback, frame (file:line of the innermost user frame)."""
    node: Mapped[str] = mapped_column(String(200), default="")
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    late: Mapped[Json | None]
    """A result that came when the attempt counted no more: state, metrics, time. It changes nothing."""


class EventRow(Base):
    """Asks and tells in their order: what restores a sampler."""

    __tablename__ = PREFIX + "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    stage_id: Mapped[int] = mapped_column(ForeignKey(StageRow.id), index=True)
    trial_id: Mapped[int] = mapped_column(ForeignKey(TrialRow.id))
    kind: Mapped[str] = mapped_column(String(4))
    """ask or tell."""
    after: Mapped[int | None]
    """Of an ask: how many of the stage's tells the sampler had heard when it was asked. An ask is recorded
    once the candidate is examined, and results may come in meanwhile."""


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
    size: Mapped[int] = mapped_column(BigInteger)
    """Bytes."""
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

    context: Mapped[str] = mapped_column(String(100), primary_key=True)
    """Recall's context; followed by the job's id where recall keeps to the job."""
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey(JobRow.id), index=True)
    trial_id: Mapped[int] = mapped_column(ForeignKey(TrialRow.id), index=True)
    """A claim lives until its trial ends, and no longer than its job's lease."""


class OutboxRow(Base):
    """A change to be mirrored to MLflow, written in the transaction that makes the change.

    The row says *what* changed; the recorder reads *how* from the other tables, so a row delivered
    twice does no harm.
    """

    __tablename__ = PREFIX + "outbox"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey(JobRow.id))
    kind: Mapped[str] = mapped_column(String(20))
    """job_started, job_ended, stage_started, stage_ended, trial_started, trial_ended, trial_tested."""
    stage_id: Mapped[int | None] = mapped_column(ForeignKey(StageRow.id))
    trial_id: Mapped[int | None] = mapped_column(ForeignKey(TrialRow.id))
    created_at: Mapped[datetime]
    done_at: Mapped[datetime | None]


# Only what is still to be delivered is ever searched for.
Index(
    "ix_orchestrate_outbox_backlog",
    OutboxRow.job_id,
    OutboxRow.id,
    sqlite_where=OutboxRow.done_at.is_(None),
    postgresql_where=OutboxRow.done_at.is_(None),
)


class MirrorRow(Base):
    """Which MLflow run, experiment or model mirrors what: `entity` is like job:ID, stage:7, trial:42."""

    __tablename__ = PREFIX + "mirrors"

    tracking_uri: Mapped[str] = mapped_column(String(500), primary_key=True)
    entity: Mapped[str] = mapped_column(String(100), primary_key=True)
    mirror_id: Mapped[str] = mapped_column(String(100))


def table_of(row: type[Base]) -> Table[Any]:
    """The table of a row class, for statements that bypass the object mapper."""
    table = row.__table__
    assert isinstance(table, Table)
    return cast("Table[Any]", table)
