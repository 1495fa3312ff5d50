"""What is to become of a proposed candidate: run it, answer it from an earlier trial, or wait for one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from ..core.candidate import digest
from ..core.fingerprint import Key
from .models import ClaimRow, EvaluationRow, JobRow, TrialRow


@dataclass(frozen=True)
class RecallPolicy:
    """Which earlier results may be served.

    `context` is the namespace in which keys are comparable, `scope` whether other jobs' results count,
    `shared` the objective values that may be served; the candidate's own values always win.
    """

    context: str
    scope: str
    shared: frozenset[str]


@dataclass(frozen=True)
class Launch:
    """Run it: attempt number `attempt`."""

    trial_id: int
    attempt: int
    reason: str


@dataclass(frozen=True)
class Recall:
    """It is answered: trial `source_id` scored the same."""

    trial_id: int
    source_id: int
    tier: str
    metrics: Mapping[str, float]
    values: Mapping[str, float]
    reason: str


@dataclass(frozen=True)
class Wait:
    """Trial `holder_id`, of this job or another, is running the same: wait for its result."""

    trial_id: int
    holder_id: int
    reason: str


@dataclass(frozen=True)
class Infeasible:
    """It breaks a bound that needs no run to know."""

    trial_id: int
    reason: str


Decision = Launch | Recall | Wait | Infeasible


def decide(
    session: Session, trial: TrialRow, policy: RecallPolicy | None, job_id: str, clock: ColumnElement[float]
) -> Decision:
    """Decide on a queued trial and, for a launch, claim its keys. Changes no trial."""
    attempt = trial.attempts + 1
    keys = [Key(tier, key) for tier, key in trial.keys]
    if policy is None or not keys:
        return Launch(trial.id, attempt, "nothing to recall by")
    found = _known(session, keys, policy, job_id)
    if found is not None:
        values = {name: value for name, value in found.values.items() if name in policy.shared}
        return Recall(
            trial.id,
            found.trial_id,
            found.tier,
            found.metrics,
            {**values, **trial.values},
            f"{found.tier} match with trial id {found.trial_id} of job {found.job_id}",
        )
    holder = _claim(session, trial, keys, policy, job_id, clock)
    if holder is not None:
        return Wait(
            trial.id, holder.trial_id, f"trial id {holder.trial_id} of job {holder.job_id} runs the same"
        )
    return Launch(trial.id, attempt, "unknown so far")


def release(session: Session, trial_ids: Sequence[int]) -> None:
    """Give the trials' claims back."""
    session.execute(delete(ClaimRow).where(ClaimRow.trial_id.in_(trial_ids)))


def publish(session: Session, trials: Iterable[TrialRow], contexts: Mapping[int, str], job_id: str) -> None:
    """Make finished trials' results known under their keys. `contexts` is by stage id."""
    for trial in trials:
        for tier, key in trial.keys:
            session.add(
                EvaluationRow(
                    context=contexts[trial.stage_id],
                    key=key,
                    tier=tier,
                    trial_id=trial.id,
                    job_id=job_id,
                    metrics=trial.metrics,
                    values=trial.values,
                    seconds=float(trial.timings.get("run", 0.0)),
                    created_at=trial.ended_at,
                )
            )


def _known(session: Session, keys: Sequence[Key], policy: RecallPolicy, job_id: str) -> EvaluationRow | None:
    for key in keys:
        query = select(EvaluationRow).where(
            EvaluationRow.context == policy.context, EvaluationRow.key == key.digest
        )
        if policy.scope == "job":
            query = query.where(EvaluationRow.job_id == job_id)
        rows = session.scalars(query.order_by(EvaluationRow.id)).all()
        for row in rows:
            if policy.shared <= set(row.values):
                return row
    return None


def _claim(
    session: Session,
    trial: TrialRow,
    keys: Sequence[Key],
    policy: RecallPolicy,
    job_id: str,
    clock: ColumnElement[float],
) -> ClaimRow | None:
    """Claim every key; give the living claim that stands in the way, if one does.

    A claim lives while its job's lease does. Those of one's own job stand only for other trials.
    """
    scoped = policy.context if policy.scope == "catalog" else digest([policy.context, job_id])
    standing: list[ClaimRow | None] = []
    for key in keys:
        claim = session.get(ClaimRow, (scoped, key.digest), with_for_update=True)
        if claim is not None and claim.trial_id != trial.id and _alive(session, claim, job_id, clock):
            return claim
        standing.append(claim)
    for key, claim in zip(keys, standing, strict=True):
        if claim is not None:
            claim.job_id, claim.trial_id = job_id, trial.id
        else:
            session.add(ClaimRow(context=scoped, key=key.digest, job_id=job_id, trial_id=trial.id))
    session.flush()
    return None


def _alive(session: Session, claim: ClaimRow, job_id: str, clock: ColumnElement[float]) -> bool:
    if claim.job_id == job_id:
        holder = session.get(TrialRow, claim.trial_id)
        return holder is not None and holder.state == "running"
    return (
        session.scalar(select(JobRow.id).where(JobRow.id == claim.job_id, JobRow.lease_expires_at > clock))
        is not None
    )
