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
    """`diagnostics`: metrics of the sampler itself, by number of asks; a list is a curve by training step."""
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
    confirmed: Mapped[Json | None]
    """The objectives' values of one more training with another seed, for chosen candidates of a search
    that recalls."""
    keys: Mapped[list[Any]]
    """The print's keys, as [tier, digest] pairs."""
    class_id: Mapped[int | None] = mapped_column(ForeignKey(PREFIX + "classes.id"), index=True)
    """The class of recall that it belongs to."""
    tier: Mapped[str | None] = mapped_column(String(16))
    """Tier of the key by which it was found to belong there; of a class's founder, its cheapest."""
    recalled_from: Mapped[int | None] = mapped_column(ForeignKey(PREFIX + "trials.id"))
    waits_for: Mapped[int | None] = mapped_column(ForeignKey(PREFIX + "trials.id"))
    """While queued: the trial, of this job or another, whose result it will share."""
    timings: Mapped[Json]
    """Seconds: propose, static, fingerprint, recall, launch, run, measure, record (up to the commit)."""
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
    """running, finished, recalled (only the measured objectives were made), pruned, failed, lost,
    interrupted or cancelled."""
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


class NamespaceRow(Base):
    """One memory of recall: what all prints in it share."""

    __tablename__ = PREFIX + "namespaces"

    memory: Mapped[str] = mapped_column(String(32), primary_key=True)
    """The recall context, or its digest with the job's id where recall keeps to the job."""
    context: Mapped[str] = mapped_column(String(32), index=True)
    job_id: Mapped[str | None] = mapped_column(ForeignKey(JobRow.id))
    """The job that keeps to itself; null where all jobs share."""
    fields: Mapped[Json]
    """What the context is a digest of: data, split, space, program and its code, metrics, hasher."""
    created_at: Mapped[datetime]


class ClassRow(Base):
    """Candidates that count as one function in one memory."""

    __tablename__ = PREFIX + "classes"
    __table_args__ = (Index(None, "memory", "live", "used"), Index(None, "memory", "used"))

    id: Mapped[int] = mapped_column(primary_key=True)
    memory: Mapped[str] = mapped_column(String(32))
    signature: Mapped[list[Any]]
    """The founder's numbers: what later prints are verified against."""
    token: Mapped[str | None] = mapped_column(SafeText)
    """Which degenerate class it is, if it is one."""
    state: Mapped[str] = mapped_column(String(16), default="open")
    """open; quarantined: nothing of it is served; buried: invalid, its keys lead to it no more."""
    reason: Mapped[str] = mapped_column(SafeText, default="")
    live: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether it holds an evaluation that isn't forgotten."""
    hits: Mapped[int] = mapped_column(default=0)
    since: Mapped[int] = mapped_column(default=0)
    """Hits since it was last forgotten."""
    floor: Mapped[int] = mapped_column(default=0)
    """Evaluations up to this id are forgotten."""
    used: Mapped[int] = mapped_column(default=0)
    """When it was last asked for or added to, by the memory's own count: what eviction goes by."""
    checked: Mapped[int] = mapped_column(default=0)
    """Candidates that a structural key brought here and that had a functional key too."""
    split: Mapped[int] = mapped_column(default=0)
    """Those among them whose functional key would have kept them apart: misses of the hash."""
    created_at: Mapped[datetime]


class NameRow(Base):
    """A key that leads to a class; to several, where prints with one key failed verification."""

    __tablename__ = PREFIX + "names"

    memory: Mapped[str] = mapped_column(String(32), primary_key=True)
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    class_id: Mapped[int] = mapped_column(ForeignKey(ClassRow.id), primary_key=True)
    tier: Mapped[str] = mapped_column(String(16))


class TombstoneRow(Base):
    """An invalidation: what it names is served no more, and what used it is marked."""

    __tablename__ = PREFIX + "tombstones"

    id: Mapped[int] = mapped_column(primary_key=True)
    scope: Mapped[str] = mapped_column(String(16))
    """namespace, data, code, class, trial or job."""
    subject: Mapped[str] = mapped_column(SafeText)
    reason: Mapped[str] = mapped_column(SafeText)
    created_at: Mapped[datetime]


class EvaluationRow(Base):
    """A result that recall may serve. Rows are only added: forgotten and invalid ones stay as history."""

    __tablename__ = PREFIX + "evaluations"
    __table_args__ = (UniqueConstraint("class_id", "trial_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    class_id: Mapped[int] = mapped_column(ForeignKey(ClassRow.id))
    trial_id: Mapped[int] = mapped_column(ForeignKey(PREFIX + "trials.id"), index=True)
    job_id: Mapped[str] = mapped_column(ForeignKey(JobRow.id), index=True)
    status: Mapped[str] = mapped_column(String(16))
    """finished; pruned (its reports answer shorter runs); failed (by its own code)."""
    metrics: Mapped[Json]
    values: Mapped[Json]
    error: Mapped[Json | None]
    steps: Mapped[int | None]
    """Steps that it ran, where the namespace holds runs of several lengths."""
    seconds: Mapped[float]
    tombstone_id: Mapped[int | None] = mapped_column(ForeignKey(TombstoneRow.id))
    at: Mapped[float]
    """Seconds since 1970 on the database's clock: what a time to live is counted from."""


class HitRow(Base):
    """What a recalled trial was served, or what an audited one would have been."""

    __tablename__ = PREFIX + "hits"

    trial_id: Mapped[int] = mapped_column(ForeignKey(PREFIX + "trials.id"), primary_key=True)
    class_id: Mapped[int] = mapped_column(ForeignKey(ClassRow.id), index=True)
    tier: Mapped[str] = mapped_column(String(16))
    served: Mapped[list[Any]]
    """Ids of the evaluations whose mean was served."""
    values: Mapped[Json]
    hash_seconds: Mapped[float]
    saved_seconds: Mapped[float]
    waited_seconds: Mapped[float]
    audited: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Trained all the same, to see whether the hit would have been right."""
    differences: Mapped[Json | None]
    """Of an audited one: its own values less those that it would have been served."""
    tombstone_id: Mapped[int | None] = mapped_column(ForeignKey(TombstoneRow.id))
    """The invalidation of something that it was served."""
    created_at: Mapped[datetime]


class ClaimRow(Base):
    """A class in flight: a trial that holds such a row trains it, others wait for the result."""

    __tablename__ = PREFIX + "claims"

    class_id: Mapped[int] = mapped_column(ForeignKey(ClassRow.id), primary_key=True)
    trial_id: Mapped[int] = mapped_column(ForeignKey(PREFIX + "trials.id"), primary_key=True, index=True)
    """A claim lives until its trial ends, and no longer than its job's lease."""
    job_id: Mapped[str] = mapped_column(ForeignKey(JobRow.id), index=True)


class OutboxRow(Base):
    """A change to be mirrored to MLflow, written in the transaction that makes the change.

    The row says *what* changed; the recorder reads *how* from the other tables, so a row delivered
    twice does no harm.
    """

    __tablename__ = PREFIX + "outbox"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey(JobRow.id))
    kind: Mapped[str] = mapped_column(String(20))
    """job_started, job_ended, stage_started, stage_ended, trial_started, trial_ended, trial_tested,
    trial_confirmed, trial_invalid."""
    stage_id: Mapped[int | None] = mapped_column(ForeignKey(StageRow.id))
    trial_id: Mapped[int | None] = mapped_column(ForeignKey(TrialRow.id))
    created_at: Mapped[datetime]
    done_at: Mapped[datetime | None]
    seconds: Mapped[float | None]
    """How long its delivery took, in the process that delivers; 0 where it was delivered with another."""


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
