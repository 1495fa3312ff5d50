"""Audits: hits that are trained all the same, to see how often a merge was wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from sqlalchemy import Connection, bindparam, select, update

from ..models import ClassRow, HitRow, table_of
from .decisions import RecallPolicy

if TYPE_CHECKING:
    from .publish import Outcome

ENOUGH = 5
"""Audits from which the noise of an evaluation is estimated."""

_ROUNDING = 1e-9
_HITS, _CLASSES = table_of(HitRow), table_of(ClassRow)
_FIND = select(HitRow.trial_id, HitRow.values).where(
    HitRow.audited, HitRow.trial_id.in_(bindparam("ids", expanding=True))
)
_OF_MEMORY = (
    select(HitRow.trial_id, HitRow.class_id, HitRow.tier, HitRow.values, HitRow.differences)
    .join(ClassRow, ClassRow.id == HitRow.class_id)
    .where(HitRow.audited, HitRow.differences.is_not(None), ClassRow.memory == bindparam("memory"))
    .order_by(HitRow.trial_id)
)


@dataclass(frozen=True)
class AuditReport:
    """What the audits of one memory found. The interval is Clopper and Pearson's, 95 %.

    Hits on equal candidates can't be wrong: they show the noise of an evaluation and aren't counted.
    """

    audited: int
    wrong: int
    low: float
    high: float
    tolerance: float | None
    """Difference in the leading objective beyond which a merge counts as wrong; None: not known yet."""
    quarantined: int


def judge(connection: Connection, memory: str, finished: Sequence[Outcome], policy: RecallPolicy) -> None:
    """Compare audited trials with what they would have been served; put outlying classes in quarantine."""
    by_trial = {one.trial_id: one for one in finished}
    if not by_trial or policy.audit == 0:
        return
    found = connection.execute(_FIND, {"ids": sorted(by_trial)}).all()
    for trial_id, served in found:
        own = by_trial[trial_id].values
        differences = {name: own[name] - served[name] for name in policy.shared if name in own}
        connection.execute(update(_HITS).where(_HITS.c.trial_id == trial_id).values(differences=differences))
    if found and policy.lead is not None:
        outlying = _wrong(connection, memory, policy.lead, policy.audit_tolerance)[1]
        reason = f"an audit found another {policy.lead}"
        for class_id in {class_id for _, class_id in outlying}:
            connection.execute(
                update(_CLASSES)
                .where(_CLASSES.c.id == class_id)
                .values(state="quarantined", live=False, reason=reason)
            )


def audits(
    connection: Connection, memory: str, lead: str | None, tolerance: float | None = None
) -> AuditReport:
    """Estimate how many merges of a memory are false."""
    count, wrong, limit = 0, 0, None
    if lead is not None:
        count, outlying, limit = _wrong(connection, memory, lead, tolerance)
        wrong = len(outlying)
    isolated = select(ClassRow.id).where(ClassRow.memory == memory, ClassRow.state == "quarantined")
    return AuditReport(
        count,
        wrong,
        *_interval(wrong, count),
        limit,
        len(list(connection.scalars(isolated))),
    )


def _wrong(
    connection: Connection, memory: str, lead: str, tolerance: float | None
) -> tuple[int, list[tuple[int, int]], float | None]:
    """Number of merges audited, the (trial, class) pairs of those found wrong, and the limit used.

    Without a given tolerance the limit is three robust standard deviations of the audits' own
    differences (1.4826 times their median, since most merges are right).
    """
    rows = [
        (row.trial_id, row.class_id, row.tier, row.differences[lead], row.values.get(lead, 0.0))
        for row in connection.execute(_OF_MEMORY, {"memory": memory})
        if lead in row.differences
    ]
    merged = [row for row in rows if row[2] != "exact"]
    limit = tolerance
    if limit is None:
        sizes = [abs(difference) for _, _, _, difference, _ in rows]
        limit = 3 * 1.4826 * median(sizes) if len(sizes) >= ENOUGH else None
    outlying = [
        (trial_id, class_id)
        for trial_id, class_id, _, difference, served in merged
        if limit is not None and abs(difference) > max(limit, _ROUNDING * max(1.0, abs(served)))
    ]
    return len(merged), outlying, limit


def _interval(found: int, among: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval of a proportion, by quantiles of the beta distribution."""
    from scipy.special import betaincinv  # late: it takes longer to import than all of this package

    tail = (1 - level) / 2
    low = float(betaincinv(found, among - found + 1, tail)) if found else 0.0
    high = float(betaincinv(found + 1, among - found, 1 - tail)) if found < among else 1.0
    return low, high
