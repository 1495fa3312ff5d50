"""Makes ended trials known to recall, judges audits, and keeps a memory within its size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, func, select, update

from ..engine import database_time, insert_once
from ..models import ClaimRow, ClassRow, EvaluationRow, table_of
from .aggregate import mean
from .audit import judge
from .decisions import RecallPolicy
from .memory import FIND_EVALUATIONS, lock

_CLASSES = table_of(ClassRow)

TRANSIENT = frozenset(
    {
        *("MemoryError", "OutOfMemoryError", "OSError", "IOError", "ConnectionError", "TimeoutError"),
        *("ConnectionResetError", "ConnectionRefusedError", "BrokenPipeError", "PermissionError"),
        *("FileNotFoundError", "InterruptedError", "KeyboardInterrupt", "SystemExit", "LostError"),
        *("ArtifactError", "DataError", "CatalogError", "ClusterError", "AcceleratorError", "RayError"),
    }
)
"""Errors that say nothing of the candidate: another attempt may well succeed."""

_TOUCH = (
    update(_CLASSES).where(_CLASSES.c.id == bindparam("this")).values(live=True, used=bindparam("now_used"))
)
_NOW = select(func.coalesce(func.max(ClassRow.used), 0), database_time()).where(
    ClassRow.memory == bindparam("memory")
)


@dataclass(frozen=True)
class Outcome:
    """How a trial of a class ended."""

    trial_id: int
    class_id: int
    status: Literal["finished", "pruned", "failed"]
    metrics: Mapping[str, float]
    values: Mapping[str, float]
    seconds: float
    steps: int | None = None
    """Last step that it reported."""
    error: Mapping[str, Any] | None = None


def clock() -> datetime:
    """The driver's clock: for information, never for decisions."""
    return datetime.now(UTC)


def publish(
    connection: Connection, job_id: str, outcomes: Sequence[Outcome], policy: RecallPolicy
) -> dict[int, dict[str, float]]:
    """Add evaluations; give, by trial, the values that finished ones count with.

    With several evaluations a class these are the means over the class's, in which a lucky draw weighs
    less. Failures that say nothing of the candidate aren't kept.
    """
    kept = [one for one in outcomes if _kept(one, policy)]
    if not kept:
        return {}
    memory = policy.memory(job_id)
    lock(connection, memory)
    rows = [
        {
            "class_id": one.class_id,
            "trial_id": one.trial_id,
            "job_id": job_id,
            "status": one.status,
            "metrics": dict(one.metrics),
            "values": dict(one.values),
            "error": None if one.error is None else dict(one.error),
            "steps": one.steps if one.status == "pruned" else policy.steps,
            "seconds": one.seconds,
        }
        for one in kept
    ]
    used, now = connection.execute(_NOW, {"memory": memory}).one()
    insert_once(connection, table_of(EvaluationRow), [{**row, "at": now} for row in rows])
    finished = [one for one in kept if one.status == "finished"]
    _touch(connection, finished, used)
    if policy.max_classes is not None:
        evict(connection, memory, policy.max_classes)
    judge(connection, memory, finished, policy)
    return _means(connection, finished, policy)


def _kept(one: Outcome, policy: RecallPolicy) -> bool:
    if one.status == "failed":
        return policy.failures is not None and str((one.error or {}).get("type")) not in TRANSIENT
    return one.status == "finished" or (policy.steps is not None and one.steps is not None)


def _touch(connection: Connection, finished: Sequence[Outcome], used: int) -> None:
    rows = [{"this": one.class_id, "now_used": used + index} for index, one in enumerate(finished, 1)]
    if rows:
        connection.execute(_TOUCH, rows)


def _means(
    connection: Connection, finished: Sequence[Outcome], policy: RecallPolicy
) -> dict[int, dict[str, float]]:
    values = {one.trial_id: dict(one.values) for one in finished}
    if policy.evaluations == 1 or not finished:
        return values
    by_class: dict[int, list[Mapping[str, float]]] = {}
    ids = sorted({one.class_id for one in finished})
    for row in connection.execute(FIND_EVALUATIONS, {"ids": ids}):
        if row.status == "finished" and (policy.steps is None or row.steps == policy.steps):
            by_class.setdefault(row.class_id, []).append(row.values)
    for one in finished:
        if known := by_class.get(one.class_id):
            counted = mean(known[: policy.evaluations])
            shared = {name: value for name, value in counted.items() if name in policy.shared}
            values[one.trial_id] = dict(policy.completed({**values[one.trial_id], **shared}))
    return values


def evict(connection: Connection, memory: str, limit: int) -> None:
    """Forget the classes that weren't used for longest, down to `limit`; never one in flight."""
    over = (
        select(ClassRow.id)
        .where(ClassRow.memory == memory, ClassRow.live)
        .order_by(ClassRow.used.desc())
        .offset(limit)
    )
    held = set(connection.scalars(select(ClaimRow.class_id).where(ClaimRow.class_id.in_(over))))
    ids = [class_id for class_id in connection.scalars(over) if class_id not in held]
    if ids:
        latest = (
            select(func.coalesce(func.max(EvaluationRow.id), 0))
            .where(EvaluationRow.class_id == _CLASSES.c.id)
            .scalar_subquery()
        )
        connection.execute(
            update(_CLASSES).where(_CLASSES.c.id.in_(ids)).values(live=False, since=0, floor=latest)
        )
