"""The catalog: where jobs, trials and results are remembered. The read side, and how a job is taken.

The contract, on SQLite and PostgreSQL alike: a method is one transaction; what it returned was
committed; rows it returns are plain records that no longer change. Several processes may share a
catalog; a job has one writer at a time (`Ledger`), any number of readers.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from ..core.errors import CatalogError, JobBusyError, JobNotFoundError
from . import transitions
from .drafts import JobDraft
from .engine import PATIENCE, connect, database_time, reading, resolve_url, writing
from .ledger import Ledger
from .migrate import prepare
from .models import (
    ACTIVE_TRIAL_STATES,
    ArtifactRow,
    AttemptRow,
    EventRow,
    HitRow,
    JobRow,
    Json,
    OutboxRow,
    ReportRow,
    StageRow,
    TrialRow,
)
from .owner import known_dead, shown


class Catalog:
    """An open catalog. Make it with `Catalog.open`."""

    def __init__(self, url: str | None = None, *, durable: bool = False) -> None:
        self._url = resolve_url(url)
        self.engine = connect(self._url, durable=durable)

    @classmethod
    def open(
        cls,
        url: str | None = None,
        *,
        create: bool = True,
        durable: bool = False,
        patience: float = 0.0,
    ) -> Self:
        """Open the catalog at `url`, `$ORCHESTRATE_CATALOG`, or `./.orchestrate/catalog.db`.

        With `create`, one that isn't there is made. `patience` is how many seconds a call waits for a
        database that goes away later: a driver's, which has trials running.

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
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CatalogError(f"the folder of the catalog {path} can't be made: {error}") from error
        try:
            prepare(catalog.engine, create=create)
        except CatalogError:
            catalog.close()
            raise
        catalog.engine.update_execution_options(**{PATIENCE: patience})
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
            if begins and reference:
                shown = ", ".join(row.id for row in begins[:5])
                raise JobNotFoundError(f"{reference!r} begins the ids of {len(begins)} jobs: {shown}")
            raise JobNotFoundError(_not_found(session, reference))

    def stages(self, job_id: str) -> list[StageRow]:
        """A job's stages, in order."""
        with reading(self.engine) as session:
            return list(
                session.scalars(select(StageRow).where(StageRow.job_id == job_id).order_by(StageRow.number))
            )

    def trials(
        self,
        job_id: str | None = None,
        *,
        stage_id: int | None = None,
        states: Sequence[str] = (),
        ids: Sequence[int] | None = None,
    ) -> list[TrialRow]:
        """Trials of a job, a stage, or all, by stage and number; only those in `states` and of `ids`, if
        given.
        """
        query = select(TrialRow).join(StageRow, StageRow.id == TrialRow.stage_id)
        if job_id is not None:
            query = query.where(StageRow.job_id == job_id)
        if stage_id is not None:
            query = query.where(TrialRow.stage_id == stage_id)
        if states:
            query = query.where(TrialRow.state.in_(states))
        if ids is not None:
            query = query.where(TrialRow.id.in_(ids))
        with reading(self.engine) as session:
            return list(session.scalars(query.order_by(StageRow.id, TrialRow.number)))

    def trial(self, trial_id: int) -> TrialRow:
        """A trial by its id.

        Raises:
            CatalogError: there is none.
        """
        with reading(self.engine) as session:
            found = session.get(TrialRow, trial_id)
        if found is None:
            raise CatalogError(f"the catalog has no trial of id {trial_id}")
        return found

    def place(self, stage_id: int) -> tuple[str, str]:
        """Id of the job that a stage is of, and the stage's name."""
        with reading(self.engine) as session:
            stage = session.get_one(StageRow, stage_id)
            return stage.job_id, stage.name

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

    def reports_of_stage(self, stage_id: int) -> list[ReportRow]:
        """The reports of all trials of a stage, in the order in which they were made."""
        query = (
            select(ReportRow)
            .join(TrialRow, TrialRow.id == ReportRow.trial_id)
            .where(TrialRow.stage_id == stage_id)
            .order_by(ReportRow.at, ReportRow.trial_id, ReportRow.step)
        )
        with reading(self.engine) as session:
            return list(session.scalars(query))

    def events(self, stage_id: int) -> list[tuple[str, TrialRow]]:
        """A stage's asks and tells ("ask" or "tell", trial), in the order in which the sampler heard them."""
        with reading(self.engine) as session:
            query = (
                select(EventRow.kind, EventRow.after, TrialRow)
                .join(TrialRow, TrialRow.id == EventRow.trial_id)
                .where(EventRow.stage_id == stage_id)
                .order_by(EventRow.id)
            )
            rows = [(kind, after, trial) for kind, after, trial in session.execute(query)]
        tells, places = 0, list[tuple[int, bool, int]]()
        for number, (kind, after, _) in enumerate(rows):
            # An ask stands before the tell that it hadn't heard; one that doesn't say, where it was written.
            heard = tells if kind == "tell" or after is None else after
            places.append((heard, kind == "tell", number))
            tells += kind == "tell"
        return [(rows[number][0], rows[number][2]) for _, _, number in sorted(places)]

    def hits(self, stage_id: int) -> dict[int, HitRow]:
        """What a stage's recalled and audited trials were served, by trial id."""
        query = select(HitRow).join(TrialRow).where(TrialRow.stage_id == stage_id)
        with reading(self.engine) as session:
            return {row.trial_id: row for row in session.scalars(query)}

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

    def lineage_seconds(self, stage_id: int) -> float:
        """Time that the delivery of a stage's lineage took, in its own process."""
        query = select(func.sum(OutboxRow.seconds)).where(OutboxRow.stage_id == stage_id)
        with reading(self.engine) as session:
            return session.scalar(query) or 0.0

    def owned(self, job_id: str) -> bool:
        """Whether a living driver owns the job. One that was killed on this machine is known to be dead;
        of another machine's, the lease must run out first.
        """
        query = select(JobRow.lease_owner).where(
            JobRow.id == job_id, JobRow.lease_expires_at > database_time()
        )
        with reading(self.engine) as session:
            owner = session.scalar(query)
        return owner is not None and not known_dead(owner)

    # Taking a job ---------------------------------------------------------------------------------

    def request_cancel(self, job_id: str) -> None:
        """Ask the job's driver to end it; without a living driver, end it here.

        Raises:
            JobNotFoundError: there is no such job.
            CatalogError: it is over.
        """
        row = self.job(job_id)
        if row.state in ("finished", "failed", "cancelled"):
            raise CatalogError(f"job {job_id} is {row.state} already: there is nothing to cancel")
        if self.owned(job_id):
            with writing(self.engine) as session:
                session.execute(update(JobRow).where(JobRow.id == job_id).values(cancel_requested=True))
            return
        reason = "cancelled on request, while no driver ran it"
        ledger = self.take_job(job_id, "cancel", 30.0)
        ledger.cancel([trial.id for trial in self.trials(job_id, states=ACTIVE_TRIAL_STATES)], reason)
        for stage in self.stages(job_id):
            if stage.state == "running":
                ledger.end_stage(stage.id, "cancelled", reason)
        ledger.end_job("cancelled", reason)
        ledger.release()

    def create_job(self, draft: JobDraft, owner: str, ttl: float) -> Ledger:
        """Create a job with its stages, owned by `owner` for `ttl` seconds."""
        job_id = _new_job_id(draft.name)
        job: Json = {
            "id": job_id,
            "name": draft.name,
            "state": "created",
            "spec": draft.spec,
            "text": draft.text,
            "seed": draft.seed,
            "provenance": draft.provenance,
            "created_at": transitions.clock(),
            "lease_owner": owner,
            "lease_token": 1,
        }
        stages: list[Json] = [
            {"job_id": job_id, "number": number, "name": name, "state": "created", "summary": {}}
            for number, name in enumerate(draft.stages)
        ]
        with writing(self.engine) as session:
            connection = session.connection()
            connection.execute(insert(JobRow).values(**job, lease_expires_at=database_time() + ttl))
            connection.execute(insert(StageRow), stages)
        return Ledger(self, job_id, 1, ttl)

    def take_job(self, job_id: str, owner: str, ttl: float) -> Ledger:
        """Take over a job whose driver is gone; what it ran is queued again.

        Raises:
            JobBusyError: its driver lives, or seems to until its lease ends.
        """
        left = JobRow.lease_expires_at - database_time()
        query = select(JobRow.lease_token, JobRow.lease_owner, left.label("left"))
        with writing(self.engine) as session:
            connection = session.connection()
            job = connection.execute(
                query.where(JobRow.id == job_id).with_for_update(key_share=True)
            ).one_or_none()
            if job is None:
                raise JobNotFoundError(_not_found(session, job_id))
            if job.left is not None and job.left > 0 and not known_dead(job.lease_owner):
                owner = shown(job.lease_owner)
                raise JobBusyError(
                    f"job {job_id} is owned by {owner} for another {job.left:.0f} s at least. "
                    "If that driver was killed, try again then; else wait for it, or `orchestrate cancel` it"
                )
            token = job.lease_token + 1
            connection.execute(
                update(JobRow)
                .where(JobRow.id == job_id)
                .values(lease_owner=owner, lease_token=token, lease_expires_at=database_time() + ttl)
            )
            ran = connection.scalars(
                select(TrialRow.id)
                .join(StageRow)
                .where(StageRow.job_id == job_id, TrialRow.state == "running")
            ).all()
            trials = transitions.find(connection, job_id, ran, ("running",))
            transitions.requeue(connection, trials, "interrupted", "its driver was gone")
        return Ledger(self, job_id, token, ttl)


def _new_job_id(name: str) -> str:
    """A readable id: the name's slug and six random base32 characters."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "job"
    return f"{slug}-{''.join(secrets.choice('abcdefghijklmnopqrstuvwxyz234567') for _ in range(6))}"


def _not_found(session: Session, reference: str) -> str:
    rows = session.execute(select(JobRow.id, JobRow.name).order_by(JobRow.created_at.desc()).limit(500)).all()
    if not rows:
        return f"no job {reference!r}: the catalog holds no jobs yet"
    close = get_close_matches(reference, dict.fromkeys(word for row in rows for word in row), n=3, cutoff=0.6)
    meant = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
    newest = ", ".join(row.id for row in rows[:5])
    return f"no job {reference!r} in the catalog. {meant}Newest: {newest} (`orchestrate status` lists them)"
