"""The catalog: where jobs, trials and results are remembered. The read side, and how a job is taken.

The contract, on SQLite and PostgreSQL alike: a method is one transaction; what it returned was
committed; rows it returns are plain records that no longer change. Several processes may share a
catalog; a job has one writer at a time (`Ledger`), any number of readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import func, select, update

from ..core.errors import CatalogError, JobBusyError, JobNotFoundError, near_misses
from .engine import connect, database_time, reading, resolve_url, writing
from .ledger import JobDraft, Ledger, interrupt_trial, new_job_id, utc
from .migrate import prepare
from .models import (
    ArtifactRow,
    AttemptRow,
    EventRow,
    JobRow,
    OutboxRow,
    ReportRow,
    StageRow,
    TrialRow,
)


class Catalog:
    """An open catalog. Make it with `Catalog.open`."""

    def __init__(self, url: str | None = None, *, durable: bool = False) -> None:
        self._url = resolve_url(url)
        self.engine = connect(self._url, durable=durable)

    @classmethod
    def open(cls, url: str | None = None, *, create: bool = True, durable: bool = False) -> Self:
        """Open the catalog at `url`, `$ORCHESTRATE_CATALOG`, or `./.orchestrate/catalog.db`.

        With `create`, one that isn't there is made.

        Raises:
            CatalogError: it can't be reached, isn't there, or has another version's tables; the text
                says what to do.
        """
        catalog = cls(url, durable=durable)
        path = catalog.path
        if path is not None and not path.exists():
            if not create:
                raise CatalogError(
                    f"there is no catalog at {path}: no job was submitted from here yet. "
                    "Point elsewhere with --catalog or ORCHESTRATE_CATALOG"
                )
            path.parent.mkdir(parents=True, exist_ok=True)
        prepare(catalog.engine, create=create)
        return catalog

    @property
    def url(self) -> str:
        """The URL, password included: for other processes, not for people."""
        return self._url.render_as_string(hide_password=False)

    @property
    def path(self) -> Path | None:
        """The file of a SQLite catalog."""
        if self._url.get_backend_name() != "sqlite":
            return None
        return Path(str(self._url.database))

    def close(self) -> None:
        """Let go of every connection."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Reading --------------------------------------------------------------------------------------

    def jobs(self, limit: int | None = None) -> list[JobRow]:
        """Jobs, newest first."""
        with reading(self.engine) as session:
            query = select(JobRow).order_by(JobRow.created_at.desc(), JobRow.id).limit(limit)
            return list(session.scalars(query))

    def job(self, reference: str) -> JobRow:
        """Find a job by id, by the unique beginning of one, or by name (the newest of it).

        Raises:
            JobNotFoundError: with near misses.
        """
        with reading(self.engine) as session:
            found = session.get(JobRow, reference)
            if found is not None:
                return found
            newest = select(JobRow).order_by(JobRow.created_at.desc())
            named = session.scalars(newest.where(JobRow.name == reference).limit(1)).first()
            if named is not None:
                return named
            begins = session.scalars(newest.where(JobRow.id.startswith(reference, autoescape=True))).all()
            if len(begins) == 1 and reference:
                return begins[0]
            known = [row.id for row in session.scalars(newest.limit(50))]
        if begins and reference:
            raise JobNotFoundError(
                f"{reference!r} begins several jobs' ids: {', '.join(j.id for j in begins)}"
            )
        raise JobNotFoundError(f"no job {reference!r} in the catalog. {near_misses(reference, known)}")

    def stages(self, job_id: str) -> list[StageRow]:
        """A job's stages, in order."""
        with reading(self.engine) as session:
            return list(
                session.scalars(select(StageRow).where(StageRow.job_id == job_id).order_by(StageRow.number))
            )

    def trials(
        self, job_id: str | None = None, *, stage_id: int | None = None, states: Sequence[str] = ()
    ) -> list[TrialRow]:
        """Trials of a job or stage, by stage and number."""
        query = select(TrialRow).join(StageRow, StageRow.id == TrialRow.stage_id)
        if job_id is not None:
            query = query.where(StageRow.job_id == job_id)
        if stage_id is not None:
            query = query.where(TrialRow.stage_id == stage_id)
        if states:
            query = query.where(TrialRow.state.in_(states))
        with reading(self.engine) as session:
            return list(session.scalars(query.order_by(StageRow.number, TrialRow.number)))

    def trial(self, trial_id: int) -> TrialRow:
        """A trial by its id."""
        with reading(self.engine) as session:
            return session.get_one(TrialRow, trial_id)

    def attempts(self, trial_id: int) -> list[AttemptRow]:
        """A trial's launches, in order."""
        with reading(self.engine) as session:
            query = select(AttemptRow).where(AttemptRow.trial_id == trial_id).order_by(AttemptRow.number)
            return list(session.scalars(query))

    def reports(self, trial_id: int) -> list[ReportRow]:
        """A trial's metrics by step."""
        with reading(self.engine) as session:
            query = select(ReportRow).where(ReportRow.trial_id == trial_id).order_by(ReportRow.step)
            return list(session.scalars(query))

    def events(self, stage_id: int) -> list[tuple[str, TrialRow]]:
        """A stage's asks and tells in their order: ("ask" or "tell", trial)."""
        with reading(self.engine) as session:
            query = (
                select(EventRow.kind, TrialRow)
                .join(TrialRow, TrialRow.id == EventRow.trial_id)
                .where(EventRow.stage_id == stage_id)
                .order_by(EventRow.id)
            )
            return [(kind, trial) for kind, trial in session.execute(query)]

    def artifacts(
        self, job_id: str, *, trial_id: int | None = None, kind: str | None = None
    ) -> list[ArtifactRow]:
        """A job's files, in the order they were recorded."""
        query = select(ArtifactRow).where(ArtifactRow.job_id == job_id).order_by(ArtifactRow.id)
        if trial_id is not None:
            query = query.where(ArtifactRow.trial_id == trial_id)
        if kind is not None:
            query = query.where(ArtifactRow.kind == kind)
        with reading(self.engine) as session:
            return list(session.scalars(query))

    def artifacts_of(self, trial_id: int) -> list[ArtifactRow]:
        """A trial's files, whichever job it belongs to."""
        with reading(self.engine) as session:
            query = select(ArtifactRow).where(ArtifactRow.trial_id == trial_id).order_by(ArtifactRow.id)
            return list(session.scalars(query))

    def counts(self, stage_id: int) -> dict[str, int]:
        """Number of a stage's trials by state."""
        query = (
            select(TrialRow.state, func.count()).where(TrialRow.stage_id == stage_id).group_by(TrialRow.state)
        )
        with reading(self.engine) as session:
            return {row[0]: row[1] for row in session.execute(query)}

    def backlog(self, job_id: str | None = None) -> int:
        """Number of lineage events not yet mirrored."""
        query = select(func.count()).select_from(OutboxRow).where(OutboxRow.done_at.is_(None))
        if job_id is not None:
            query = query.where(OutboxRow.job_id == job_id)
        with reading(self.engine) as session:
            return session.scalar(query) or 0

    def owned(self, job_id: str) -> bool:
        """Whether a living driver owns the job."""
        query = select(JobRow.id).where(JobRow.id == job_id, JobRow.lease_expires_at > database_time())
        with reading(self.engine) as session:
            return session.scalar(query) is not None

    # Taking a job ---------------------------------------------------------------------------------

    def request_cancel(self, job_id: str) -> None:
        """Ask the job's driver to end it; without a living driver, end it here."""
        if self.owned(job_id):
            with writing(self.engine) as session:
                session.execute(update(JobRow).where(JobRow.id == job_id).values(cancel_requested=True))
            return
        row = self.job(job_id)
        if row.state in ("finished", "failed", "cancelled"):
            raise JobBusyError(f"job {job_id} is {row.state} already")
        ledger = self.take_job(job_id, "cancel", 30.0)
        ledger.cancel(
            [trial.id for trial in self.trials(job_id, states=("queued", "running"))], "the job was cancelled"
        )
        for stage in self.stages(job_id):
            if stage.state == "running":
                ledger.end_stage(stage.id, "cancelled", "the job was cancelled")
        ledger.end_job("cancelled", "cancelled on request, while no driver ran it")
        ledger.release()

    def create_job(self, draft: JobDraft, owner: str, ttl: float) -> Ledger:
        """Create a job with its stages, owned by `owner` for `ttl` seconds."""
        job_id = new_job_id(draft.name)
        with writing(self.engine) as session:
            session.add(
                JobRow(
                    id=job_id,
                    name=draft.name,
                    state="created",
                    reason="",
                    spec=draft.spec,
                    text=draft.text,
                    seed=draft.seed,
                    provenance=draft.provenance,
                    created_at=utc(),
                    lease_owner=owner,
                    lease_token=1,
                    lease_expires_at=database_time() + ttl,
                )
            )
            session.flush()
            session.add_all(
                StageRow(
                    job_id=job_id,
                    number=number,
                    name=name,
                    state="created",
                    reason="",
                    context="",
                    summary={},
                )
                for number, name in enumerate(draft.stages)
            )
        return Ledger(self, job_id, 1, ttl)

    def take_job(self, job_id: str, owner: str, ttl: float) -> Ledger:
        """Take over a job whose driver is gone; what it ran is queued again.

        Raises:
            JobBusyError: its driver lives, or seems to until its lease ends.
        """
        with writing(self.engine) as session:
            job = session.get(JobRow, job_id, with_for_update=True)
            if job is None:
                raise JobNotFoundError(f"no job {job_id!r} in the catalog")
            left = (
                session.scalar(select(job.lease_expires_at - database_time())) if job.lease_expires_at else 0
            )
            if left is not None and left > 0:
                raise JobBusyError(
                    f"job {job_id} is owned by {job.lease_owner} for another {left:.0f} s at least. If that "
                    "driver was killed, try again then; else wait for it, or `orchestrate cancel` it"
                )
            job.lease_token += 1
            job.lease_owner = owner
            token = job.lease_token
            session.flush()
            session.execute(
                update(JobRow).where(JobRow.id == job_id).values(lease_expires_at=database_time() + ttl)
            )
            running = (
                select(TrialRow).join(StageRow).where(StageRow.job_id == job_id, TrialRow.state == "running")
            )
            for trial in session.scalars(running).all():
                interrupt_trial(session, trial, "its driver was gone")
        return Ledger(self, job_id, token, ttl)
