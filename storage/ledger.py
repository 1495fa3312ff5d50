"""The write side of one job, under its lease.

Every method is one transaction, and every transaction first makes sure that this driver still owns the
job: a driver that lost it gets `StaleLeaseError` and must stop. Lineage events are written with the
change they tell of.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from ..core.candidate import Candidate
from ..core.errors import CatalogError, StaleLeaseError
from ..core.fingerprint import Key
from .artifacts import NewArtifact
from .engine import database_time, writing
from .models import (
    ACTIVE_TRIAL_STATES,
    JOB_STATES,
    ArtifactRow,
    AttemptRow,
    EventRow,
    JobRow,
    Json,
    OutboxRow,
    ReportRow,
    StageRow,
    TrialRow,
)
from .recall import Decision, Infeasible, Launch, Recall, RecallPolicy, Wait, decide, publish, release

if TYPE_CHECKING:
    from .catalog import Catalog

__all__ = [
    "Decision",
    "Infeasible",
    "JobDraft",
    "Launch",
    "Ledger",
    "Proposal",
    "Recall",
    "RecallPolicy",
    "Report",
    "Result",
    "Wait",
]


@dataclass(frozen=True)
class JobDraft:
    """A job about to be created. `stages` holds their names, in order."""

    name: str
    spec: Json
    text: str
    seed: int
    provenance: Json
    stages: tuple[str, ...]


@dataclass(frozen=True)
class Proposal:
    """A candidate that a sampler asked for, examined. `infeasible` says which bound it breaks."""

    number: int
    candidate: Candidate
    seed: int
    keys: tuple[Key, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict[str, float])
    timings: Mapping[str, float] = field(default_factory=dict[str, float])
    infeasible: str | None = None


@dataclass(frozen=True)
class Report:
    """Metrics after a step of a running trial."""

    step: int
    metrics: Mapping[str, float]
    at: datetime


@dataclass(frozen=True)
class Result:
    """How a launched trial ended well ("finished") or early ("pruned")."""

    trial_id: int
    state: str
    reason: str
    metrics: Mapping[str, float]
    values: Mapping[str, float]
    timings: Mapping[str, float]
    artifacts: Sequence[NewArtifact] = ()
    reports: Sequence[Report] = ()
    node: str = ""


def new_job_id(name: str) -> str:
    """A readable id: the name's slug and six random letters."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "job"
    letters = "abcdefghijkmnpqrstuvwxyz23456789"
    return f"{slug}-{''.join(secrets.choice(letters) for _ in range(6))}"


def utc() -> datetime:
    """The driver's clock: for information, never for decisions."""
    return datetime.now(UTC)


class Ledger:
    """Writes one job. Made by `Catalog.create_job` and `Catalog.take_job`. Thread-safe."""

    def __init__(self, catalog: Catalog, job_id: str, token: int, ttl: float) -> None:
        self.catalog = catalog
        self.job_id = job_id
        self.token = token
        self._ttl = ttl
        self._contexts: dict[int, str] = {}

    # Lease ----------------------------------------------------------------------------------------

    def heartbeat(self) -> bool:
        """Prolong the lease, on the database's clock. Returns whether a cancellation was requested."""
        with self._writing() as session:
            self._prolong(session, self._ttl)
            return bool(session.scalar(select(JobRow.cancel_requested).where(JobRow.id == self.job_id)))

    def release(self) -> None:
        """Let the lease end now, so that the job can be resumed at once."""
        with self._writing() as session:
            self._prolong(session, 0.0)

    def _prolong(self, session: Session, seconds: float) -> None:
        clock = database_time()
        session.execute(
            update(JobRow).where(JobRow.id == self.job_id).values(lease_expires_at=clock + seconds)
        )

    # Job and stages -------------------------------------------------------------------------------

    def start_job(self) -> None:
        """The job runs (again)."""
        with self._writing() as session:
            job = session.get_one(JobRow, self.job_id)
            job.state, job.reason, job.ended_at = "running", "", None
            job.started_at = job.started_at or utc()
            job.cancel_requested = False
            self._tell(session, "job_started")

    def end_job(self, state: str, reason: str = "") -> None:
        """The job stops, for good or for now (`interrupted`, `paused`)."""
        assert state in JOB_STATES
        with self._writing() as session:
            job = session.get_one(JobRow, self.job_id)
            job.state, job.reason, job.ended_at = state, reason, utc()
            self._tell(session, "job_ended")

    def set_provenance(self, **values: Any) -> None:
        """Add to what the job was made by."""
        with self._writing() as session:
            job = session.get_one(JobRow, self.job_id)
            job.provenance = {**job.provenance, **values}

    def start_stage(self, stage_id: int, context: str = "") -> None:
        """A stage runs (again)."""
        with self._writing() as session:
            stage = session.get_one(StageRow, stage_id)
            stage.state, stage.reason, stage.context, stage.ended_at = "running", "", context, None
            stage.started_at = stage.started_at or utc()
            self._tell(session, "stage_started", stage_id)

    def end_stage(self, stage_id: int, state: str, reason: str = "", summary: Json | None = None) -> None:
        """A stage ends."""
        with self._writing() as session:
            stage = session.get_one(StageRow, stage_id)
            stage.state, stage.reason, stage.ended_at = state, reason, utc()
            stage.summary = summary or {}
            self._tell(session, "stage_ended", stage_id)

    # Asking ---------------------------------------------------------------------------------------

    def propose(
        self, stage_id: int, proposals: Sequence[Proposal], recall: RecallPolicy | None
    ) -> list[Decision]:
        """Record asks and decide on each: launch, recall, wait, or infeasible."""
        with self._writing() as session:
            decisions: list[Decision] = []
            for proposal in proposals:
                trial = TrialRow(
                    stage_id=stage_id,
                    number=proposal.number,
                    state="queued",
                    candidate=dict(proposal.candidate),
                    digest=proposal.candidate.digest,
                    seed=proposal.seed,
                    metrics={},
                    values=dict(proposal.values),
                    keys=[[key.tier, key.digest] for key in proposal.keys],
                    timings=dict(proposal.timings),
                    created_at=utc(),
                    attempts=0,
                )
                session.add(trial)
                session.flush()
                session.add(EventRow(stage_id=stage_id, trial_id=trial.id, kind="ask"))
                if proposal.infeasible is not None:
                    decision: Decision = Infeasible(trial.id, proposal.infeasible)
                else:
                    decision = decide(session, trial, recall, self.job_id, database_time())
                self._apply(session, trial, decision)
                decisions.append(decision)
            return decisions

    def reconsider(self, trial_ids: Sequence[int], recall: RecallPolicy | None) -> list[Decision]:
        """Decide anew on queued trials: those that waited, are tried again, or were interrupted."""
        with self._writing() as session:
            decisions: list[Decision] = []
            for trial_id in trial_ids:
                trial = self._active(session, trial_id)
                decision = decide(session, trial, recall, self.job_id, database_time())
                self._apply(session, trial, decision)
                decisions.append(decision)
            return decisions

    def _apply(self, session: Session, trial: TrialRow, decision: Decision) -> None:
        trial.reason = decision.reason
        trial.waits_for = None
        if isinstance(decision, Launch):
            trial.state, trial.attempts = "running", decision.attempt
            trial.started_at = trial.started_at or utc()
            session.add(
                AttemptRow(trial_id=trial.id, number=decision.attempt, state="running", started_at=utc())
            )
            self._tell(session, "trial_started", trial.stage_id, trial.id)
        elif isinstance(decision, Wait):
            trial.state, trial.waits_for = "queued", decision.holder_id
        elif isinstance(decision, Recall):
            trial.recalled_from = decision.source_id
            trial.metrics, trial.values = dict(decision.metrics), dict(decision.values)
            self._end(session, trial, "recalled", decision.reason)
        else:
            self._end(session, trial, "infeasible", decision.reason)
        session.flush()

    # Telling --------------------------------------------------------------------------------------

    def report(self, trial_id: int, reports: Sequence[Report]) -> None:
        """Record a running trial's metrics by step. The first write of a step counts."""
        with self._writing() as session:
            self._active(session, trial_id)
            self._report(session, trial_id, reports)

    def finish(self, results: Sequence[Result]) -> None:
        """Record how trials ended, with their files, and let others recall them.

        Raises:
            CatalogError: one of them had ended before: the result comes too late, nothing is written.
        """
        with self._writing() as session:
            for result in results:
                trial = self._active(session, result.trial_id)
                trial.metrics, trial.values = dict(result.metrics), dict(result.values)
                trial.timings = {**trial.timings, **result.timings}
                self._report(session, trial.id, result.reports)
                self._add_artifacts(session, result.artifacts)
                self._end_attempt(session, trial, result.state, node=result.node)
                self._end(session, trial, result.state, result.reason)
                if result.state == "finished" and trial.keys:
                    publish(session, [trial], self._context_of(session, trial.stage_id), self.job_id)
            release(session, [result.trial_id for result in results])

    def fail(self, trial_id: int, state: str, error: Json, reason: str, *, retry: bool) -> None:
        """Record a failed ("failed": the user's code) or lost ("lost": the infrastructure) attempt."""
        with self._writing() as session:
            trial = self._active(session, trial_id)
            self._end_attempt(session, trial, state, error)
            if retry:
                trial.state, trial.reason = "queued", f"attempt {trial.attempts} {state}: {reason}"
            else:
                self._end(session, trial, state, reason)
                release(session, [trial_id])

    def interrupt(self, trial_ids: Sequence[int], reason: str) -> None:
        """Put running trials back in the queue, for a later driver."""
        with self._writing() as session:
            for trial_id in trial_ids:
                interrupt_trial(session, self._active(session, trial_id), reason)

    def cancel(self, trial_ids: Sequence[int], reason: str) -> None:
        """End trials that nobody wants any more."""
        with self._writing() as session:
            for trial_id in trial_ids:
                trial = self._active(session, trial_id)
                self._end_attempt(session, trial, "cancelled")
                self._end(session, trial, "cancelled", reason)
            release(session, list(trial_ids))

    def tested(self, trial_id: int, metrics: Mapping[str, float]) -> None:
        """Record a chosen trial's scores on the test split. The first ones count."""
        with self._writing() as session:
            trial = session.get_one(TrialRow, trial_id)
            if trial.test is None:
                trial.test = dict(metrics)
                self._tell(session, "trial_tested", trial.stage_id, trial_id)

    def add_artifacts(self, artifacts: Sequence[NewArtifact]) -> None:
        """Record files of the job itself. A kind recorded before is replaced."""
        with self._writing() as session:
            kinds = [artifact.kind for artifact in artifacts]
            for row in session.scalars(
                select(ArtifactRow).where(
                    ArtifactRow.job_id == self.job_id,
                    ArtifactRow.trial_id.is_(None),
                    ArtifactRow.kind.in_(kinds),
                )
            ):
                session.delete(row)
            self._add_artifacts(session, artifacts)

    # Inside one transaction -----------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Generator[Session]:
        with writing(self.catalog.engine) as session:
            token = session.scalar(
                select(JobRow.lease_token).where(JobRow.id == self.job_id).with_for_update(read=True)
            )
            if token != self.token:
                raise StaleLeaseError(
                    f"job {self.job_id} now belongs to another driver (lease {token}, ours was {self.token}): "
                    "this one stops"
                )
            yield session

    def _active(self, session: Session, trial_id: int) -> TrialRow:
        trial = session.get_one(TrialRow, trial_id)
        if trial.state not in ACTIVE_TRIAL_STATES:
            raise CatalogError(
                f"trial {trial.number} (id {trial_id}) is {trial.state} already: a later result doesn't count"
            )
        return trial

    def _end(self, session: Session, trial: TrialRow, state: str, reason: str) -> None:
        trial.state, trial.reason, trial.ended_at, trial.waits_for = state, reason, utc(), None
        session.add(EventRow(stage_id=trial.stage_id, trial_id=trial.id, kind="tell"))
        self._tell(session, "trial_ended", trial.stage_id, trial.id)

    def _end_attempt(
        self, session: Session, trial: TrialRow, state: str, error: Json | None = None, node: str = ""
    ) -> None:
        session.execute(
            update(AttemptRow)
            .where(
                AttemptRow.trial_id == trial.id,
                AttemptRow.number == trial.attempts,
                AttemptRow.state == "running",
            )
            .values(state=state, error=error, node=node, ended_at=utc())
        )

    def _report(self, session: Session, trial_id: int, reports: Sequence[Report]) -> None:
        if not reports:
            return
        steps = [report.step for report in reports]
        known = set(
            session.scalars(
                select(ReportRow.step).where(ReportRow.trial_id == trial_id, ReportRow.step.in_(steps))
            )
        )
        fresh: dict[int, Json] = {}
        for report in reports:
            if report.step not in known:
                row = {
                    "trial_id": trial_id,
                    "step": report.step,
                    "metrics": dict(report.metrics),
                    "at": report.at,
                }
                fresh.setdefault(report.step, row)
        if fresh:
            session.execute(insert(ReportRow), list(fresh.values()))

    def _add_artifacts(self, session: Session, artifacts: Sequence[NewArtifact]) -> None:
        for artifact in artifacts:
            session.add(
                ArtifactRow(
                    job_id=self.job_id,
                    trial_id=artifact.trial_id,
                    kind=artifact.kind,
                    uri=artifact.uri,
                    sha256=artifact.sha256,
                    size=artifact.size,
                    created_at=utc(),
                )
            )

    def _context_of(self, session: Session, stage_id: int) -> Mapping[int, str]:
        if stage_id not in self._contexts:
            self._contexts[stage_id] = session.get_one(StageRow, stage_id).context
        return self._contexts

    def _tell(
        self, session: Session, kind: str, stage_id: int | None = None, trial_id: int | None = None
    ) -> None:
        session.add(
            OutboxRow(job_id=self.job_id, kind=kind, stage_id=stage_id, trial_id=trial_id, created_at=utc())
        )


def interrupt_trial(session: Session, trial: TrialRow, reason: str) -> None:
    """Put a running trial back in the queue; its attempt counts as interrupted."""
    session.execute(
        update(AttemptRow)
        .where(AttemptRow.trial_id == trial.id, AttemptRow.state == "running")
        .values(state="interrupted", error=None, ended_at=utc())
    )
    trial.state, trial.reason, trial.waits_for = "queued", reason, None
