"""Examines a catalog for what must not be: broken references, states that contradict each other, files
that are gone or changed. It mends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session, aliased

from ..core.candidate import Candidate
from ..core.errors import ArtifactError, SpaceError
from .artifacts import ArtifactStore
from .catalog import Catalog
from .engine import reading
from .models import (
    ACTIVE_TRIAL_STATES,
    JOB_STATES,
    STAGE_STATES,
    TERMINAL_TRIAL_STATES,
    ArtifactRow,
    AttemptRow,
    ClaimRow,
    EvaluationRow,
    EventRow,
    HitRow,
    JobRow,
    OutboxRow,
    StageRow,
    TrialRow,
)

ATTEMPT_STATES = ("running", "finished", "recalled", "pruned", "failed", "lost", "interrupted", "cancelled")


@dataclass(frozen=True)
class Finding:
    """Something that must not be. `where` is like `trial 42` (by id), or `job digits-x3k7qa`."""

    where: str
    problem: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}"


def check(catalog: Catalog, store: ArtifactStore | None = None) -> list[Finding]:
    """Examine a catalog; with `store`, the recorded files' presence and digests, too (reads them all).

    A job that runs meanwhile causes no findings: all tables are read in one transaction.
    """
    # SQLite's transactions see one state anyway.
    one_state = {"isolation_level": "REPEATABLE READ"} if catalog.engine.dialect.name == "postgresql" else {}
    with reading(catalog.engine, **one_state) as session:
        findings = [
            *_database(session),
            *_states(session),
            *_numbers(session),
            *_times(session),
            *_candidates(session),
            *_events(session),
            *_attempts(session),
            *_recall(session),
            *_outbox(session),
        ]
        files = list(session.scalars(select(ArtifactRow).order_by(ArtifactRow.id))) if store else []
    return [*findings, *(_files(store, files) if store else ())]


def _database(session: Session) -> Iterator[Finding]:
    """SQLite's own checks; PostgreSQL enforces its constraints at all times."""
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        for row in connection.exec_driver_sql("PRAGMA integrity_check"):
            if row[0] != "ok":
                yield Finding("database", row[0])
        for table, rowid, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            yield Finding(f"{table} row {rowid}", f"refers to a row of {parent} that isn't there")


def _states(session: Session) -> Iterator[Finding]:
    known: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
        ("job", JobRow, JOB_STATES),
        ("stage", StageRow, STAGE_STATES),
        ("trial", TrialRow, ACTIVE_TRIAL_STATES + TERMINAL_TRIAL_STATES),
        ("attempt", AttemptRow, ATTEMPT_STATES),
    )
    for word, row, states in known:
        for ident, state in session.execute(select(row.id, row.state).where(row.state.not_in(states))):
            yield Finding(f"{word} {ident}", f"has the unknown state {state!r}")
    open_trials = (
        select(StageRow.id, func.count())
        .join(TrialRow, TrialRow.stage_id == StageRow.id)
        .where(StageRow.state == "finished", TrialRow.state.in_(ACTIVE_TRIAL_STATES))
        .group_by(StageRow.id)
    )
    for ident, count in session.execute(open_trials):
        yield Finding(f"stage {ident}", f"is finished, but {count} of its trials aren't over")
    open_stages = (
        select(JobRow.id, StageRow.name)
        .join(StageRow, StageRow.job_id == JobRow.id)
        .where(JobRow.state == "finished", StageRow.state != "finished")
    )
    for ident, name in session.execute(open_stages):
        yield Finding(f"job {ident}", f"is finished, but its stage {name!r} isn't")


def _numbers(session: Session) -> Iterator[Finding]:
    query = (
        select(TrialRow.stage_id, func.count(), func.max(TrialRow.number))
        .join(StageRow, StageRow.id == TrialRow.stage_id)
        .where(StageRow.state == "finished")
        .group_by(TrialRow.stage_id)
    )
    for ident, count, last in session.execute(query):
        if last != count - 1:
            yield Finding(f"stage {ident}", f"has {count} trials, but numbers up to {last}: some are lost")


def _times(session: Session) -> Iterator[Finding]:
    rules: tuple[tuple[ColumnElement[bool], str], ...] = (
        (_over() & TrialRow.ended_at.is_(None), "is over, but has no end time"),
        (_active() & TrialRow.ended_at.is_not(None), "isn't over, but has an end time"),
        (TrialRow.ended_at < TrialRow.created_at, "ended before it was proposed"),
    )
    yield from _rules(session, rules)


def _candidates(session: Session) -> Iterator[Finding]:
    rows = session.execute(select(TrialRow.id, TrialRow.candidate, TrialRow.digest))
    for ident, candidate, digest in rows:
        try:
            intact = Candidate(candidate).digest == digest
        except (SpaceError, TypeError, AttributeError):  # not a mapping, or of no scalars
            intact = False
        if not intact:
            yield Finding(f"trial {ident}", "its candidate doesn't have the recorded digest")


def _events(session: Session) -> Iterator[Finding]:
    ask, tell = aliased(EventRow), aliased(EventRow)
    wanted = dict.fromkeys(ACTIVE_TRIAL_STATES, (1, 0))
    wanted |= dict.fromkeys(TERMINAL_TRIAL_STATES, (1, 1))
    query = (
        select(
            TrialRow.id,
            TrialRow.state,
            func.count(ask.id.distinct()),
            func.count(tell.id.distinct()),
            func.max(ask.id),
            func.min(tell.id),
        )
        .join(ask, (ask.trial_id == TrialRow.id) & (ask.kind == "ask"), isouter=True)
        .join(tell, (tell.trial_id == TrialRow.id) & (tell.kind == "tell"), isouter=True)
        .group_by(TrialRow.id, TrialRow.state)
    )
    for ident, state, asks, tells, asked, told in session.execute(query):
        if state in wanted and (asks, tells) != wanted[state]:
            yield Finding(f"trial {ident}", f"is {state} with {asks} ask and {tells} tell events")
        elif asks and tells and told < asked:
            yield Finding(f"trial {ident}", "was told before it was asked")
    strays = select(EventRow.id).join(TrialRow).where(EventRow.stage_id != TrialRow.stage_id)
    for ident in session.scalars(strays):
        yield Finding(f"event {ident}", "stands in another stage than its trial")


def _attempts(session: Session) -> Iterator[Finding]:
    query = (
        select(
            TrialRow.id,
            TrialRow.state,
            TrialRow.attempts,
            func.count(AttemptRow.id),
            func.max(AttemptRow.number),
        )
        .join(AttemptRow, AttemptRow.trial_id == TrialRow.id, isouter=True)
        .group_by(TrialRow.id, TrialRow.state, TrialRow.attempts)
    )
    for ident, _, attempts, count, last in session.execute(query):
        if count != attempts or (last or 0) != attempts:
            yield Finding(f"trial {ident}", f"counts {attempts} attempts, but {count} are recorded")
    running = (
        select(TrialRow.id, TrialRow.state, func.count(AttemptRow.id))
        .join(
            AttemptRow, (AttemptRow.trial_id == TrialRow.id) & (AttemptRow.state == "running"), isouter=True
        )
        .group_by(TrialRow.id, TrialRow.state)
    )
    for ident, state, count in session.execute(running):
        if count != (state == "running"):
            yield Finding(f"trial {ident}", f"is {state} with {count} running attempts")


def _recall(session: Session) -> Iterator[Finding]:
    rules: tuple[tuple[ColumnElement[bool], str], ...] = (
        ((TrialRow.state == "recalled") & TrialRow.recalled_from.is_(None), "is recalled from no trial"),
        (
            TrialRow.state.not_in(("recalled", "failed")) & TrialRow.recalled_from.is_not(None),
            "has a source, but isn't recalled",
        ),
        ((TrialRow.state != "queued") & TrialRow.waits_for.is_not(None), "waits, but isn't queued"),
    )
    yield from _rules(session, rules)
    source = aliased(TrialRow)
    sources = select(TrialRow.id, TrialRow.state, source.id, source.state).join(
        source, source.id == TrialRow.recalled_from
    )
    for ident, state, other, theirs in session.execute(sources):
        if theirs not in (("failed",) if state == "failed" else ("finished", "pruned")):
            origin = "failed like" if state == "failed" else "recalled from"
            yield Finding(f"trial {ident}", f"is {origin} trial {other}, which is {theirs}")
    served = select(EvaluationRow.id, EvaluationRow.status, TrialRow.id, TrialRow.state).join(TrialRow)
    for ident, status, trial, state in session.execute(served.where(TrialRow.state != EvaluationRow.status)):
        yield Finding(f"evaluation {ident}", f"comes from trial {trial}, which is {state}, not {status}")
    held = select(ClaimRow.class_id, TrialRow.id, TrialRow.state).join(
        TrialRow, TrialRow.id == ClaimRow.trial_id
    )
    for class_id, trial, state in session.execute(held.where(_over())):
        yield Finding(f"claim of class {class_id}", f"is held by trial {trial}, which is {state}")
    hits = (
        select(
            TrialRow.id, TrialRow.state, TrialRow.class_id, HitRow.class_id, HitRow.audited, HitRow.trial_id
        )
        .join(HitRow, HitRow.trial_id == TrialRow.id, isouter=True)
        .where((TrialRow.state == "recalled") | HitRow.trial_id.is_not(None))
    )
    for ident, state, own, served_from, audited, *hit in session.execute(hits):
        if hit == [None]:
            yield Finding(f"trial {ident}", "is recalled, but nothing says what it was served")
        elif served_from != own:
            yield Finding(
                f"trial {ident}", f"was served from class {served_from}, but belongs to class {own}"
            )
        elif state == "finished" and not audited:
            yield Finding(f"trial {ident}", "was served a result, but has one of its own")


def _outbox(session: Session) -> Iterator[Finding]:
    query = (
        select(TrialRow.id, func.count(OutboxRow.id))
        .join(
            OutboxRow, (OutboxRow.trial_id == TrialRow.id) & (OutboxRow.kind == "trial_ended"), isouter=True
        )
        .where(_over())
        .group_by(TrialRow.id)
    )
    for ident, count in session.execute(query):
        if count != 1:
            yield Finding(f"trial {ident}", f"is over, but lineage is told so {count} times")


def _files(store: ArtifactStore, artifacts: list[ArtifactRow]) -> Iterator[Finding]:
    for row in artifacts:
        try:
            size = store.verify(row.uri, row.sha256).stat().st_size
        except ArtifactError as error:
            yield Finding(f"artifact {row.id}", str(error))
        else:
            if size != row.size:
                yield Finding(f"artifact {row.id}", f"has {size} bytes, recorded {row.size}")


def _rules(session: Session, rules: tuple[tuple[ColumnElement[bool], str], ...]) -> Iterator[Finding]:
    for condition, problem in rules:
        for ident in session.scalars(select(TrialRow.id).where(condition).order_by(TrialRow.id)):
            yield Finding(f"trial {ident}", problem)


def _over() -> ColumnElement[bool]:
    return TrialRow.state.in_(TERMINAL_TRIAL_STATES)


def _active() -> ColumnElement[bool]:
    return TrialRow.state.in_(ACTIVE_TRIAL_STATES)
