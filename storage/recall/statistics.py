"""What recall did for a job, or for all: hits by tier, time saved and spent, how its classes look."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from ..engine import reading
from ..models import ClassRow, EvaluationRow, HitRow, NamespaceRow, StageRow, TrialRow
from .audit import AuditReport, audits

POINTS = 20
"""Points of the hit rate's curve."""

_LEARNED = ("finished", "recalled", "pruned", "failed", "lost")


@dataclass(frozen=True)
class Statistics:
    """Counts over one stage's trials, in the order they were proposed.

    A proposal is a *hit* when it was answered (`by_tier` says by which key), *partial* when its class was
    known and wanted another evaluation, else a *miss*. Hits of tier "exact" need no functional hash.
    """

    job_id: str
    stage: str
    memory: str
    namespace: Mapping[str, object]
    proposals: int
    trainings: int
    misses: int
    partial: int
    by_tier: Mapping[str, int]
    refused: int
    """Answered by a failure of the same."""
    audited: int
    classes: int
    sizes: Mapping[int, int]
    """Number of classes by how many of the stage's trials they hold."""
    degenerate: Mapping[str, int]
    """Trials by degenerate class."""
    hash_seconds: float
    saved_seconds: Mapping[str, float]
    """By tier: what running the hits would have cost."""
    waited_seconds: float
    false_negatives: tuple[int, int]
    """Candidates that the functional key would have kept apart, of those that a structural key proved
    equal to a known one: the hash's misses, over the whole memory."""
    invalid: int
    """Hits whose source was invalidated since."""
    curve: Sequence[tuple[int, float]]
    """(proposals, share of hits among them), to the end."""
    audit: AuditReport

    @property
    def hits(self) -> int:
        """Proposals answered."""
        return sum(self.by_tier.values())

    @property
    def net_seconds(self) -> float:
        """Time saved less time spent on hashing."""
        return sum(self.saved_seconds.values()) - self.hash_seconds


def statistics(engine: Engine, stage_id: int, lead: str | None = None) -> Statistics:
    """Gather a stage's statistics; `lead` names the goal that audits are judged by."""
    with reading(engine) as session:
        stage = session.get_one(StageRow, stage_id)
        of_trial = {
            hit.trial_id: hit
            for hit in session.scalars(select(HitRow).join(TrialRow).where(TrialRow.stage_id == stage_id))
        }
        rows = [
            (trial, of_trial.get(trial.id))
            for trial in session.scalars(
                select(TrialRow).where(TrialRow.stage_id == stage_id).order_by(TrialRow.number)
            )
        ]
        class_ids = {trial.class_id for trial, _ in rows if trial.class_id is not None}
        of_stage = select(TrialRow.class_id).where(TrialRow.stage_id == stage_id)
        known = {row.id: row for row in session.scalars(select(ClassRow).where(ClassRow.id.in_(of_stage)))}
        evaluations = session.execute(
            select(EvaluationRow.class_id, EvaluationRow.trial_id)
            .where(EvaluationRow.class_id.in_(of_stage))
            .order_by(EvaluationRow.id)
        )
        later = _later((row.class_id, row.trial_id) for row in evaluations)
        memory = next((row.memory for row in known.values()), stage.context)
        namespace = session.get(NamespaceRow, memory)
        checked = session.execute(
            select(
                func.coalesce(func.sum(ClassRow.split), 0), func.coalesce(func.sum(ClassRow.checked), 0)
            ).where(ClassRow.memory == memory)
        ).one()
        report = audits(session.connection(), memory, lead)
    by_tier: Counter[str] = Counter()
    saved: defaultdict[str, float] = defaultdict(float)
    curve: list[tuple[int, float]] = []
    proposals = [(trial, hit) for trial, hit in rows if trial.state != "infeasible"]
    every = max(1, -(-len(proposals) // POINTS))
    for count, (trial, hit) in enumerate(proposals, 1):
        if trial.state == "recalled" and hit is not None:
            by_tier[hit.tier] += 1
            saved[hit.tier] += hit.saved_seconds
        if count % every == 0 or count == len(proposals):
            curve.append((count, sum(by_tier.values()) / count))
    trained = [trial for trial, _ in proposals if trial.attempts > 0 and trial.state != "recalled"]
    partial = sum(trial.id in later for trial in trained)
    tokens = Counter(
        known[trial.class_id].token
        for trial, _ in rows
        if trial.class_id in known and known[trial.class_id].token is not None
    )
    sizes = Counter(Counter(trial.class_id for trial, _ in rows if trial.class_id is not None).values())
    return Statistics(
        job_id=stage.job_id,
        stage=stage.name,
        memory=memory,
        namespace=namespace.fields if namespace else {},
        proposals=len(proposals),
        trainings=len(trained),
        misses=len(trained) - partial,
        partial=partial,
        by_tier=dict(sorted(by_tier.items())),
        refused=sum(trial.state == "failed" and trial.attempts == 0 for trial, _ in proposals),
        audited=sum(bool(hit and hit.audited) for _, hit in rows),
        classes=len(class_ids),
        sizes=dict(sorted(sizes.items())),
        degenerate={str(token): count for token, count in tokens.most_common()},
        hash_seconds=sum(float(trial.timings.get("fingerprint", 0.0)) for trial, _ in rows),
        saved_seconds=dict(saved),
        waited_seconds=sum(hit.waited_seconds for _, hit in rows if hit is not None),
        false_negatives=(int(checked[0]), int(checked[1])),
        invalid=sum(bool(hit and hit.tombstone_id) for _, hit in rows),
        curve=curve,
        audit=report,
    )


def _later(evaluations: Iterable[tuple[int, int]]) -> set[int]:
    """The trials that weren't the first of their class."""
    seen: set[int] = set()
    later: set[int] = set()
    for class_id, trial_id in evaluations:
        if class_id in seen:
            later.add(trial_id)
        seen.add(class_id)
    return later
