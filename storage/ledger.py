"""The write side of one job, under its lease.

Every method is one transaction, and every transaction first makes sure that this driver still owns the
job: one that lost it gets `StaleLeaseError` and must stop. A trial's state changes together with its
attempt, the event log, claims, evaluations and the lineage events that tell of it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from time import perf_counter
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, bindparam, delete, func, select, update

from ..core.errors import CatalogError, StaleLeaseError, near_misses
from ..core.sampler import Curve
from . import asks, transitions
from .artifacts import NewArtifact
from .drafts import JobDraft, Proposal, Report, Result
from .engine import database_time, patiently, writing
from .models import (
    ACTIVE_TRIAL_STATES,
    JOB_STATES,
    STAGE_STATES,
    ArtifactRow,
    JobRow,
    Json,
    StageRow,
    TrialRow,
    table_of,
)
from .owner import shown
from .recall import (
    Decision,
    Failed,
    Infeasible,
    Launch,
    Recall,
    RecallPolicy,
    Refuse,
    Wait,
    open_memory,
)
from .transitions import Ending, Trial

if TYPE_CHECKING:
    from .catalog import Catalog

__all__ = [
    "Decision",
    "Failed",
    "Infeasible",
    "JobDraft",
    "Launch",
    "Ledger",
    "Proposal",
    "Recall",
    "RecallPolicy",
    "Refuse",
    "Report",
    "Result",
    "Wait",
]

P = ParamSpec("P")
R = TypeVar("R")

_JOBS, _STAGES, _TRIALS = table_of(JobRow), table_of(StageRow), table_of(TrialRow)

DIAGNOSTICS = 500
"""Entries of a sampler's own metrics that a stage keeps at most."""

_LEASE = (
    select(JobRow.lease_token, JobRow.lease_owner)
    .where(JobRow.id == bindparam("job"))
    .with_for_update(key_share=True)
)


def _patient(method: Callable[Concatenate[Ledger, P], R]) -> Callable[Concatenate[Ledger, P], R]:
    """A write that is done again when the database was away and took nothing."""

    @wraps(method)
    def call(self: Ledger, *arguments: P.args, **options: P.kwargs) -> R:
        return patiently(self.catalog.engine, lambda: method(self, *arguments, **options))

    return call


class Ledger:
    """Writes one job. Made by `Catalog.create_job` and `Catalog.take_job`. Thread-safe.

    Every method but `release` raises `StaleLeaseError` when the job belongs to another driver by now,
    and then has written nothing.
    """

    def __init__(self, catalog: Catalog, job_id: str, token: int, ttl: float) -> None:
        self.catalog = catalog
        self.job_id = job_id
        self.token = token
        self._ttl = ttl
        self._contexts: dict[int, str] = {}
        self._policies: dict[int, RecallPolicy | None] = {}  # as stages decided by last

    # Lease ----------------------------------------------------------------------------------------

    def heartbeat(self) -> bool:
        """Prolong the lease on the database's clock. Returns whether a cancellation was requested."""
        with self._writing("beat") as connection:
            connection.execute(self._job().values(lease_expires_at=database_time() + self._ttl))
            query = select(JobRow.cancel_requested).where(JobRow.id == self.job_id)
            return bool(connection.scalar(query))

    def release(self) -> None:
        """Let go of the job, so that it can be resumed at once. Does nothing if it was lost before."""
        with writing(self.catalog.engine) as session:
            mine = self._job().where(_JOBS.c.lease_token == self.token)
            session.connection().execute(mine.values(lease_owner=None, lease_expires_at=None))

    # Job and stages -------------------------------------------------------------------------------

    @_patient
    def start_job(self) -> None:
        """The job runs (again)."""
        with self._writing() as connection:
            began = func.coalesce(_JOBS.c.started_at, transitions.clock())
            connection.execute(
                self._job().values(
                    state="running", reason="", started_at=began, ended_at=None, cancel_requested=False
                )
            )
            transitions.notify(connection, self.job_id, "job_started", [(None, None)])

    @_patient
    def end_job(self, state: str, reason: str = "") -> None:
        """The job stops, for good or for now (`interrupted`, `paused`)."""
        _known_state("job", state, JOB_STATES)
        with self._writing() as connection:
            connection.execute(self._job().values(state=state, reason=reason, ended_at=transitions.clock()))
            transitions.notify(connection, self.job_id, "job_ended", [(None, None)])

    @_patient
    def set_provenance(self, **values: Any) -> None:
        """Add to what the job was made by."""
        with self._writing() as connection:
            before = connection.scalar(select(JobRow.provenance).where(JobRow.id == self.job_id)) or {}
            connection.execute(self._job().values(provenance={**before, **values}))

    @_patient
    def start_stage(self, stage_id: int, context: str = "") -> None:
        """A stage runs (again). `context` is recall's namespace, empty where nothing is recalled."""
        with self._writing() as connection:
            self._context(connection, stage_id)
            began = func.coalesce(_STAGES.c.started_at, transitions.clock())
            connection.execute(
                _stage(stage_id).values(
                    state="running", reason="", context=context, started_at=began, ended_at=None
                )
            )
            transitions.notify(connection, self.job_id, "stage_started", [(stage_id, None)])
        self._contexts[stage_id] = context

    @_patient
    def end_stage(self, stage_id: int, state: str, reason: str = "", summary: Json | None = None) -> None:
        """A stage ends.

        Raises:
            CatalogError: it would be `finished`, but has trials that aren't over.
        """
        _known_state("stage", state, STAGE_STATES)
        with self._writing() as connection:
            self._context(connection, stage_id)
            if state == "finished":
                _refuse_open_trials(connection, stage_id)
            kept = {**_summary(connection, stage_id), **(summary or {})}
            connection.execute(
                _stage(stage_id).values(
                    state=state, reason=reason, summary=kept, ended_at=transitions.clock()
                )
            )
            transitions.notify(connection, self.job_id, "stage_ended", [(stage_id, None)])

    @_patient
    def open_memory(self, recall: RecallPolicy, fields: Mapping[str, Any]) -> None:
        """Make recall's memory known, with the fields that its context is a digest of."""
        with self._writing() as connection:
            open_memory(connection, recall, self.job_id, fields)

    @_patient
    def diagnose(self, stage_id: int, step: int, metrics: Mapping[str, float | Curve]) -> None:
        """Keep metrics of the stage's sampler itself after `step` asks. The first write of a step counts.

        They reach MLflow with the stage's end. Of very many, every other one is dropped.
        """
        with self._writing() as connection:
            self._context(connection, stage_id)
            summary = _summary(connection, stage_id)
            entries: list[Json] = list(summary.get("diagnostics", []))
            if any(entry["step"] == step for entry in entries):
                return
            at = transitions.clock().isoformat()
            entries.append({"step": step, "at": at, "metrics": dict(metrics)})
            if len(entries) > DIAGNOSTICS:
                entries = entries[::2]
            connection.execute(_stage(stage_id).values(summary={**summary, "diagnostics": entries}))

    # Asking ---------------------------------------------------------------------------------------

    @_patient
    def propose(
        self, stage_id: int, proposals: Sequence[Proposal], recall: RecallPolicy | None
    ) -> list[Decision]:
        """Record asks and decide on each: launch, recall, wait, or infeasible.

        The asks of the whole list are logged before the tells of those that are over at once.

        Raises:
            CatalogError: the stage isn't this job's, or runs under another context than `recall`'s.
        """
        if not proposals:
            return []
        begun = perf_counter()
        with self._writing() as connection:
            context = self._context(connection, stage_id)
            if recall is not None and recall.context != context:
                raise CatalogError(
                    f"stage {stage_id} was started with the recall context {context!r}, "
                    f"but is to recall from {recall.context!r}"
                )
            self._policies[stage_id] = recall
            trials = asks.record(connection, stage_id, context, proposals)
            return asks.settle(connection, self.job_id, trials, recall, begun, proposals)

    @_patient
    def reconsider(self, trial_ids: Sequence[int], recall: RecallPolicy | None) -> list[Decision]:
        """Decide anew on queued trials: those that waited, are tried again, or were interrupted."""
        if not trial_ids:
            return []
        with self._writing() as connection:
            trials = transitions.find(connection, self.job_id, trial_ids, ("queued",))
            self._policies.update((trial.stage_id, recall) for trial in trials)
            return asks.settle(connection, self.job_id, trials, recall, perf_counter())

    # Telling --------------------------------------------------------------------------------------

    @_patient
    def report(self, reports: Sequence[tuple[int, Report]]) -> None:
        """Record open trials' metrics by step, each with its trial's id. The first write of a step counts.

        Raises:
            CatalogError: a trial is over. Nothing is written then.
        """
        with self._writing() as connection:
            ids = list(dict.fromkeys(trial_id for trial_id, _ in reports))
            transitions.find(connection, self.job_id, ids, ACTIVE_TRIAL_STATES)
            transitions.report(connection, reports)

    def finish(self, results: Sequence[Result]) -> dict[int, dict[str, float]]:
        """Record how running trials ended, with their files, and let others recall the finished ones.

        A result of an attempt that counts no more, because its trial is over, waits again, or runs elsewhere,
        is late: it is kept at that attempt and changes nothing. So is what a driver learns that has lost the
        job.

        Returns:
            The values that each trial which ended by it counts with, by trial id: means, where recall takes
            several evaluations of a class. The others' results were late.

        Raises:
            CatalogError: one without an `attempt` is of a trial that doesn't run. Nothing is written then.
        """
        try:
            return self._finish(results) if results else {}
        except StaleLeaseError:
            with suppress(CatalogError), writing(self.catalog.engine) as session:
                late = [result for result in results if result.attempt is not None]
                transitions.note_late(session.connection(), late)
            raise

    @_patient
    def _finish(self, results: Sequence[Result]) -> dict[int, dict[str, float]]:
        begun = perf_counter()
        with self._writing() as connection:
            found = transitions.find(connection, self.job_id, [result.trial_id for result in results])
            late = [
                result
                for trial, result in zip(found, results, strict=True)
                if result.attempt is not None and (trial.state, trial.attempts) != ("running", result.attempt)
            ]
            transitions.note_late(connection, late)
            pairs = [pair for pair in zip(found, results, strict=True) if pair[1] not in late]
            trials, results = [trial for trial, _ in pairs], [result for _, result in pairs]
            transitions.require(trials, ("running",))
            transitions.report(
                connection, ((result.trial_id, made) for result in results for made in result.reports)
            )
            transitions.keep(
                connection,
                self.job_id,
                ((result.trial_id, made) for result in results for made in result.artifacts),
            )
            record = (perf_counter() - begun) / max(1, len(results))
            return transitions.end(
                connection,
                self.job_id,
                [
                    Ending(
                        trial,
                        result.state,
                        result.reason,
                        result.metrics,
                        {**trial.values, **result.values},
                        {**result.timings, "record": result.timings.get("record", 0.0) + record},
                        result.recalled_from,
                        node=result.node,
                        steps=result.steps,
                    )
                    for trial, result in zip(trials, results, strict=True)
                ],
                self._policy(trials),
            )

    @_patient
    def fail(self, trial_id: int, state: str, error: Mapping[str, Any], reason: str, *, retry: bool) -> None:
        """End a running trial's attempt as "failed" (the user's code) or "lost" (the infrastructure).

        With `retry` the trial is queued again and keeps its claim; without, it is over, and a failure
        that lies in the candidate answers for those of its class.
        """
        _known_state("failed attempt", state, ("failed", "lost"))
        with self._writing() as connection:
            trials = self._running(connection, [trial_id])
            if retry:
                why = f"attempt {trials[0].attempts} {state}: {reason}"
                transitions.requeue(connection, trials, state, why, error)
            else:
                ending = Ending(trials[0], state, reason, error=error)
                transitions.end(connection, self.job_id, [ending], self._policy(trials))

    @_patient
    def interrupt(self, trial_ids: Sequence[int], reason: str) -> None:
        """Put running trials back in the queue, for a later driver."""
        with self._writing() as connection:
            transitions.requeue(connection, self._running(connection, trial_ids), "interrupted", reason)

    @_patient
    def cancel(self, trial_ids: Sequence[int], reason: str) -> None:
        """End trials, queued or running, that nobody wants any more."""
        with self._writing() as connection:
            trials = transitions.find(connection, self.job_id, trial_ids, ACTIVE_TRIAL_STATES)
            transitions.end(connection, self.job_id, [Ending(trial, "cancelled", reason) for trial in trials])

    @_patient
    def tested(self, trial_id: int, metrics: Mapping[str, float]) -> None:
        """Record a chosen trial's scores on the test split. The first ones count."""
        with self._writing() as connection:
            [trial] = transitions.find(connection, self.job_id, [trial_id], ("finished", "recalled"))
            scored = (
                update(_TRIALS)
                .where(_TRIALS.c.id == trial_id, _TRIALS.c.test.is_(None))
                .values(test=dict(metrics))
            )
            if connection.execute(scored).rowcount:
                transitions.notify(connection, self.job_id, "trial_tested", [(trial.stage_id, trial_id)])

    @_patient
    def confirmed(
        self, trial_id: int, values: Mapping[str, float], artifacts: Sequence[NewArtifact] = ()
    ) -> None:
        """Record what one more training of a chosen trial gave. The first one counts."""
        with self._writing() as connection:
            [trial] = transitions.find(connection, self.job_id, [trial_id], ("finished", "recalled"))
            again = (
                update(_TRIALS)
                .where(_TRIALS.c.id == trial_id, _TRIALS.c.confirmed.is_(None))
                .values(confirmed=dict(values))
            )
            if connection.execute(again).rowcount:
                transitions.keep(connection, self.job_id, ((trial_id, made) for made in artifacts))
                transitions.notify(connection, self.job_id, "trial_confirmed", [(trial.stage_id, trial_id)])

    @_patient
    def add_artifacts(self, artifacts: Sequence[NewArtifact]) -> None:
        """Record files of the job itself. A kind recorded before is replaced."""
        with self._writing() as connection:
            connection.execute(
                delete(table_of(ArtifactRow)).where(
                    ArtifactRow.job_id == self.job_id,
                    ArtifactRow.trial_id.is_(None),
                    ArtifactRow.kind.in_([made.kind for made in artifacts]),
                )
            )
            transitions.keep(connection, self.job_id, ((made.trial_id, made) for made in artifacts))

    # Inside one transaction -----------------------------------------------------------------------

    @contextmanager
    def _writing(self, point: str = "commit") -> Generator[Connection]:
        with writing(self.catalog.engine, point=point) as session:
            connection = session.connection()
            # The row stays locked to the end, or a take-over could come between check and change.
            row = connection.execute(_LEASE, {"job": self.job_id}).one_or_none()
            if row is None or row.lease_token != self.token or row.lease_owner is None:
                held = shown(row.lease_owner if row else None)
                raise StaleLeaseError(
                    f"job {self.job_id} is no longer this driver's (it belongs to {held}): "
                    "this driver stops, and writes nothing more"
                )
            yield connection

    def _running(self, connection: Connection, trial_ids: Sequence[int]) -> list[Trial]:
        return transitions.find(connection, self.job_id, trial_ids, ("running",))

    def _policy(self, trials: Sequence[Trial]) -> RecallPolicy | None:
        return next((self._policies.get(trial.stage_id) for trial in trials), None)

    def _job(self) -> Any:
        return update(_JOBS).where(_JOBS.c.id == self.job_id)

    def _context(self, connection: Connection, stage_id: int) -> str:
        """The stage's recall context; an error if the stage isn't this job's."""
        if stage_id not in self._contexts:
            context = connection.scalar(
                select(StageRow.context).where(StageRow.id == stage_id, StageRow.job_id == self.job_id)
            )
            if context is None:
                raise CatalogError(f"job {self.job_id} has no stage of id {stage_id}")
            self._contexts[stage_id] = context
        return self._contexts[stage_id]


def _summary(connection: Connection, stage_id: int) -> Json:
    """What the stage's row sums up so far."""
    return connection.scalar(select(StageRow.summary).where(StageRow.id == stage_id)) or {}


def _stage(stage_id: int) -> Any:
    return update(_STAGES).where(_STAGES.c.id == stage_id)


def _refuse_open_trials(connection: Connection, stage_id: int) -> None:
    numbers = connection.scalars(
        select(TrialRow.number).where(TrialRow.stage_id == stage_id, TrialRow.state.in_(ACTIVE_TRIAL_STATES))
    ).all()
    if numbers:
        shown = ", ".join(map(str, sorted(numbers)[:5]))
        raise CatalogError(
            f"stage {stage_id} can't be finished: {len(numbers)} of its trials aren't over ({shown})"
        )


def _known_state(what: str, state: str, states: Sequence[str]) -> None:
    if state not in states:
        raise CatalogError(f"{state!r} is no state of a {what}. {near_misses(state, states)}")
