"""Invalidation: what was found wrong is served no more, and whoever was served it is marked."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Engine, insert, select, update

from ...core.errors import CatalogError
from ..engine import reading, writing
from ..models import (
    ClassRow,
    EvaluationRow,
    HitRow,
    NamespaceRow,
    OutboxRow,
    StageRow,
    TombstoneRow,
    TrialRow,
    table_of,
)

Scope = Literal["namespace", "data", "code", "class", "trial", "job"]

_EVALUATIONS, _HITS, _CLASSES = table_of(EvaluationRow), table_of(HitRow), table_of(ClassRow)


@dataclass(frozen=True)
class Buried:
    """What an invalidation reached: evaluations, and the trials (ids) that had been served them."""

    tombstone_id: int
    evaluations: int
    classes: int
    trials: tuple[int, ...]


def invalidate(engine: Engine, scope: Scope, subject: str, reason: str) -> Buried:
    """Bury evaluations: those of a namespace (its name's beginning), of data or code (digests, as
    `recall stats` shows them), of a class, a trial or a job. A namespace, data, code or a class is buried
    as a whole: what is still in flight there ends without being served to anyone.

    Raises:
        CatalogError: nothing is of that name.
    """
    with writing(engine) as session:
        connection = session.connection()
        classes = _classes(connection, scope, subject)
        condition: ColumnElement[bool]
        if scope == "trial":
            condition = EvaluationRow.trial_id == _number(scope, subject)
        elif scope == "job":
            condition = EvaluationRow.job_id == subject
        else:
            condition = EvaluationRow.class_id.in_(classes)
        found = connection.execute(
            select(EvaluationRow.id, EvaluationRow.class_id).where(
                condition, EvaluationRow.tombstone_id.is_(None)
            )
        ).all()
        if not found and not classes:
            raise CatalogError(
                f"nothing that recall could serve is of {scope} {subject!r}: see `orchestrate recall stats`"
            )
        row = TombstoneRow(scope=scope, subject=subject, reason=reason, created_at=datetime.now(UTC))
        session.add(row)
        session.flush()
        tombstone = row.id
        ids = {row.id for row in found}
        touched = {row.class_id for row in found}
        connection.execute(
            update(_EVALUATIONS).where(_EVALUATIONS.c.id.in_(ids)).values(tombstone_id=tombstone)
        )
        connection.execute(
            update(_CLASSES)
            .where(_CLASSES.c.id.in_(classes))
            .values(state="buried", live=False, since=0, reason=reason)
        )
        _settle(connection, touched)
        trials = _mark(connection, touched, ids, tombstone)
        return Buried(tombstone, len(ids), len(touched), tuple(trials))


def reasons(engine: Engine, tombstones: Collection[int]) -> dict[int, str]:
    """Why something was invalidated, by the tombstone's id."""
    with reading(engine) as session:
        rows = session.execute(
            select(TombstoneRow.id, TombstoneRow.reason).where(TombstoneRow.id.in_(tombstones))
        )
        return {row.id: row.reason for row in rows}


def _classes(connection: Connection, scope: Scope, subject: str) -> list[int]:
    if scope == "class":
        return list(connection.scalars(select(ClassRow.id).where(ClassRow.id == _number(scope, subject))))
    if scope in ("trial", "job"):
        return []
    memories = [
        row.memory
        for row in connection.execute(select(NamespaceRow.memory, NamespaceRow.context, NamespaceRow.fields))
        if _meant(scope, subject, row)
    ]
    return list(connection.scalars(select(ClassRow.id).where(ClassRow.memory.in_(memories))))


def _meant(scope: Scope, subject: str, row: Any) -> bool:
    if len(subject) < 4:
        return False
    if scope == "namespace":
        return row.memory.startswith(subject) or row.context.startswith(subject)
    return str(row.fields.get(scope, {}).get("digest", "")).startswith(subject)


def _settle(connection: Connection, classes: set[int]) -> None:
    """Classes without anything left to serve aren't live."""
    left = select(EvaluationRow.class_id).where(
        EvaluationRow.class_id == _CLASSES.c.id,
        EvaluationRow.tombstone_id.is_(None),
        EvaluationRow.id > _CLASSES.c.floor,
        EvaluationRow.status == "finished",
    )
    connection.execute(
        update(_CLASSES).where(_CLASSES.c.id.in_(classes), ~left.exists()).values(live=False, since=0)
    )


def _mark(connection: Connection, classes: set[int], evaluations: set[int], tombstone: int) -> Sequence[int]:
    """Mark the hits that were served any of the evaluations, and have lineage tell of their trials again."""
    rows = connection.execute(
        select(HitRow.trial_id, HitRow.served, StageRow.job_id, TrialRow.stage_id)
        .join(TrialRow, TrialRow.id == HitRow.trial_id)
        .join(StageRow, StageRow.id == TrialRow.stage_id)
        .where(HitRow.class_id.in_(classes), HitRow.tombstone_id.is_(None))
        .order_by(HitRow.trial_id)
    ).all()
    hit = [row for row in rows if evaluations.intersection(row.served)]
    if hit:
        ids = [row.trial_id for row in hit]
        connection.execute(update(_HITS).where(_HITS.c.trial_id.in_(ids)).values(tombstone_id=tombstone))
        connection.execute(
            insert(table_of(OutboxRow)),
            [
                {
                    "job_id": row.job_id,
                    "kind": "trial_invalid",
                    "stage_id": row.stage_id,
                    "trial_id": row.trial_id,
                    "created_at": datetime.now(UTC),
                }
                for row in hit
            ],
        )
    return [row.trial_id for row in hit]


def _number(scope: str, subject: str) -> int:
    if not subject.isdigit():
        raise CatalogError(f"a {scope} is named by its number, not {subject!r}")
    return int(subject)
