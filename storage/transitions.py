"""How a trial's state changes: the statements, for lists of trials at once, of each kind of change.

Called inside a write transaction of a driver that owns the job; who may call what when is the ledger's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Executable, bindparam, delete, insert, select, update

from ..core.errors import CatalogError
from .artifacts import NewArtifact
from .drafts import Report, Result
from .engine import insert_once
from .models import (
    TERMINAL_TRIAL_STATES,
    ArtifactRow,
    AttemptRow,
    ClaimRow,
    EventRow,
    Json,
    OutboxRow,
    ReportRow,
    StageRow,
    TrialRow,
    table_of,
)
from .recall import Launch, Membership, Outcome, RecallPolicy, Wait, publish

_TRIALS, _ATTEMPTS = table_of(TrialRow), table_of(AttemptRow)

# Statements are made once: making one costs more than SQLite takes to run it.
_FIND = (
    select(
        *(TrialRow.id, TrialRow.stage_id, StageRow.name, StageRow.context, TrialRow.number),
        *(TrialRow.state, TrialRow.attempts, TrialRow.class_id, TrialRow.tier, TrialRow.values),
        *(TrialRow.timings, TrialRow.seed, TrialRow.digest, TrialRow.created_at, TrialRow.waits_for),
    )
    .join(StageRow, StageRow.id == TrialRow.stage_id)
    .where(StageRow.job_id == bindparam("job"), TrialRow.id.in_(bindparam("ids", expanding=True)))
)
_END_ATTEMPT = (
    update(_ATTEMPTS)
    .where(_ATTEMPTS.c.trial_id == bindparam("this"), _ATTEMPTS.c.number == bindparam("attempt"))
    .values({name: bindparam(name) for name in ("state", "error", "node", "ended_at")})
)
_NOTE_LATE = (
    update(_ATTEMPTS)
    .where(
        _ATTEMPTS.c.trial_id == bindparam("this"),
        _ATTEMPTS.c.number == bindparam("attempt"),
        _ATTEMPTS.c.state.not_in(("running", "finished", "pruned")),
        _ATTEMPTS.c.late.is_(None),
    )
    .values(late=bindparam("late"))
)
_RELEASE = delete(table_of(ClaimRow)).where(ClaimRow.trial_id.in_(bindparam("ids", expanding=True)))
_INSERT = {row: insert(table_of(row)) for row in (AttemptRow, EventRow, ArtifactRow, OutboxRow)}


@dataclass(frozen=True)
class Trial:
    """A trial that isn't over, as found at the beginning of a transaction."""

    id: int
    stage_id: int
    stage: str
    context: str
    number: int
    state: str
    attempts: int
    known: Membership | None
    values: Json
    timings: Json
    seed: int
    digest: str
    waited: float = 0.0
    """Seconds since it was proposed, if it waits for another."""


@dataclass(frozen=True)
class Ending:
    """A trial's terminal state and what is recorded with it. The trial's own values are kept as they
    are where none are given.
    """

    trial: Trial
    state: str
    reason: str
    metrics: Mapping[str, float] | None = None
    values: Mapping[str, float] | None = None
    timings: Mapping[str, float] | None = None
    recalled_from: int | None = None
    error: Mapping[str, Any] | None = None
    node: str = ""
    steps: int | None = None


def clock() -> datetime:
    """The driver's clock: for information, never for decisions."""
    return datetime.now(UTC)


def find(
    connection: Connection, job_id: str, trial_ids: Sequence[int], states: Sequence[str] | None = None
) -> list[Trial]:
    """Read trials of the job, in the given order.

    Raises:
        CatalogError: one isn't the job's, stands twice, or is in none of `states`, if given.
    """
    found: dict[int, Trial] = {}
    for row in connection.execute(_FIND, {"job": job_id, "ids": list(trial_ids)}):
        known = None if row.class_id is None else Membership(row.class_id, row.tier or "")
        waited = 0.0 if row.waits_for is None else (clock() - row.created_at).total_seconds()
        found[row.id] = Trial(
            *(row.id, row.stage_id, row.name, row.context, row.number, row.state, row.attempts),
            *(known, row.values, row.timings, row.seed, row.digest, waited),
        )
    if len(set(trial_ids)) != len(trial_ids):
        raise CatalogError(f"a trial stands twice in one change: {list(trial_ids)}")
    for trial_id in trial_ids:
        if trial_id not in found:
            raise CatalogError(f"job {job_id} has no trial of id {trial_id}")
    trials = [found[trial_id] for trial_id in trial_ids]
    if states is not None:
        require(trials, states)
    return trials


def require(trials: Iterable[Trial], states: Sequence[str]) -> None:
    """Refuse a change of trials that aren't in one of `states`.

    Raises:
        CatalogError: with the first one that isn't.
    """
    for trial in trials:
        if trial.state not in states:
            over = trial.state in TERMINAL_TRIAL_STATES
            raise CatalogError(
                f"trial {trial.number} of stage {trial.stage!r} (id {trial.id}) is {trial.state} already: "
                "what comes later isn't recorded"
                if over
                else f"trial {trial.number} of stage {trial.stage!r} (id {trial.id}) is {trial.state}, "
                f"not {' or '.join(states)}"
            )


def launch(connection: Connection, job_id: str, launched: Sequence[tuple[Trial, Launch]]) -> None:
    """Queued trials run."""
    if not launched:
        return
    now = clock()
    _write(
        connection,
        (
            {
                "this": trial.id,
                "state": "running",
                "reason": decision.reason,
                "attempts": decision.attempt,
                "waits_for": None,
                "started_at": now,
            }
            for trial, decision in launched
        ),
    )
    connection.execute(
        _INSERT[AttemptRow],
        [
            {"trial_id": trial.id, "number": decision.attempt, "state": "running", "started_at": now}
            for trial, decision in launched
        ],
    )
    notify(connection, job_id, "trial_started", [(trial.stage_id, trial.id) for trial, _ in launched])


def wait(connection: Connection, waiting: Sequence[tuple[Trial, Wait]]) -> None:
    """Queued trials wait for others' results."""
    _write(
        connection,
        (
            {"this": trial.id, "reason": decision.reason, "waits_for": decision.holder_id}
            for trial, decision in waiting
        ),
    )


def requeue(
    connection: Connection,
    trials: Sequence[Trial],
    attempt_state: str,
    reason: str,
    error: Mapping[str, Any] | None = None,
) -> None:
    """Running trials go back to the queue; their attempts end as `attempt_state`. Claims stay."""
    _write(connection, ({"this": trial.id, "state": "queued", "reason": reason} for trial in trials))
    _end_attempts(connection, ((trial, attempt_state, error, "") for trial in trials))


def end(
    connection: Connection, job_id: str, endings: Sequence[Ending], recall: RecallPolicy | None = None
) -> dict[int, dict[str, float]]:
    """Trials reach a terminal state: the tell is logged, claims are given up, and with `recall` results
    become known to it.

    Returns the values that each trial ends with, by trial id.
    """
    if not endings:
        return {}
    now = clock()
    values = {ending.trial.id: _values(ending) for ending in endings}
    if recall is not None:
        values.update(publish(connection, job_id, _outcomes(endings), recall))
    _write(
        connection,
        (
            {
                "this": ending.trial.id,
                "state": ending.state,
                "reason": ending.reason,
                "metrics": dict(ending.metrics or {}),
                "values": values[ending.trial.id],
                "timings": _timings(ending),
                "recalled_from": ending.recalled_from,
                "waits_for": None,
                "ended_at": now,
            }
            for ending in endings
        ),
    )
    _end_attempts(
        connection,
        (
            (ending.trial, ending.state, ending.error, ending.node)
            for ending in endings
            if ending.trial.state == "running"
        ),
    )
    log_tells(connection, [(ending.trial.stage_id, ending.trial.id) for ending in endings])
    held = [ending.trial.id for ending in endings if ending.trial.known and ending.trial.attempts]
    if held:
        connection.execute(_RELEASE, {"ids": held})
    notify(connection, job_id, "trial_ended", [(e.trial.stage_id, e.trial.id) for e in endings])
    return values


def report(connection: Connection, reports: Iterable[tuple[int, Report]]) -> None:
    """Keep metrics by (trial id, step), unless there are some already."""
    rows = [
        {"trial_id": trial_id, "step": made.step, "metrics": dict(made.metrics), "at": made.at}
        for trial_id, made in reports
    ]
    insert_once(connection, table_of(ReportRow), rows)


def keep(connection: Connection, job_id: str, artifacts: Iterable[tuple[int | None, NewArtifact]]) -> None:
    """Record files, each with the id of its trial (None: the job's own)."""
    now = clock()
    rows = [
        {
            "job_id": job_id,
            "trial_id": trial_id,
            "kind": made.kind,
            "uri": made.uri,
            "sha256": made.sha256,
            "size": made.size,
            "created_at": now,
        }
        for trial_id, made in artifacts
    ]
    if rows:
        connection.execute(_INSERT[ArtifactRow], rows)


def log_asks(connection: Connection, asks: Sequence[tuple[int, int, int | None]]) -> None:
    """Append to the event log for each (stage id, trial id, tells heard before)."""
    rows = [
        {"stage_id": stage_id, "trial_id": trial_id, "kind": "ask", "after": after}
        for stage_id, trial_id, after in asks
    ]
    connection.execute(_INSERT[EventRow], rows)


def log_tells(connection: Connection, tells: Sequence[tuple[int, int]]) -> None:
    """Append to the event log for each (stage id, trial id)."""
    rows = [{"stage_id": stage_id, "trial_id": trial_id, "kind": "tell"} for stage_id, trial_id in tells]
    connection.execute(_INSERT[EventRow], rows)


def note_late(connection: Connection, results: Iterable[Result]) -> None:
    """Keep results at attempts that count no more, the first one of each. Nothing else changes, so this
    alone may be written without the lease.
    """
    at = clock().isoformat()
    rows = [
        {
            "this": result.trial_id,
            "attempt": result.attempt,
            "late": {"state": result.state, "metrics": dict(result.metrics), "at": at, "node": result.node},
        }
        for result in results
    ]
    if rows:
        connection.execute(_NOTE_LATE, rows)


def notify(
    connection: Connection, job_id: str, kind: str, subjects: Sequence[tuple[int | None, int | None]]
) -> None:
    """Leave an event for lineage, for each (stage id, trial id)."""
    now = clock()
    connection.execute(
        _INSERT[OutboxRow],
        [
            {"job_id": job_id, "kind": kind, "stage_id": stage_id, "trial_id": trial_id, "created_at": now}
            for stage_id, trial_id in subjects
        ],
    )


def _write(connection: Connection, changes: Iterable[dict[str, Any]]) -> None:
    rows = list(changes)
    if rows:
        connection.execute(_update_trial(tuple(rows[0])), rows)


@cache
def _update_trial(parameters: tuple[str, ...]) -> Executable:
    columns: dict[str, Any] = {name: bindparam(name) for name in parameters if name != "this"}
    return update(_TRIALS).where(_TRIALS.c.id == bindparam("this")).values(columns)


def _end_attempts(
    connection: Connection, attempts: Iterable[tuple[Trial, str, Mapping[str, Any] | None, str]]
) -> None:
    now = clock()
    rows = [
        {
            "this": trial.id,
            "attempt": trial.attempts,
            "state": state,
            "error": None if error is None else dict(error),
            "node": node,
            "ended_at": now,
        }
        for trial, state, error, node in attempts
    ]
    if rows:
        connection.execute(_END_ATTEMPT, rows)


def _values(ending: Ending) -> Json:
    return dict(ending.trial.values if ending.values is None else ending.values)


def _timings(ending: Ending) -> Json:
    return {**ending.trial.timings, **(ending.timings or {})}


def _outcomes(endings: Sequence[Ending]) -> list[Outcome]:
    """What recall may learn of: trials of a class that ran."""
    return [
        Outcome(
            *(ending.trial.id, ending.trial.known.class_id, ending.state),
            *(ending.metrics or {}, _values(ending)),
            seconds=sum(float(_timings(ending).get(part, 0.0)) for part in ("run", "measure")),
            steps=ending.steps,
            error=ending.error,
        )
        for ending in endings
        if ending.trial.known is not None
        and ending.trial.state == "running"
        and ending.state in ("finished", "pruned", "failed")
    ]
