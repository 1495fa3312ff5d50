"""What is to become of a proposed candidate: run it, answer it from an earlier trial, or wait for one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, false, func, select

from ..core.candidate import digest
from ..core.fingerprint import Key
from .engine import database_time, upsert
from .models import ClaimRow, EvaluationRow, JobRow, TrialRow, table_of

_FIND_CLAIMS = (
    select(
        ClaimRow.key,
        ClaimRow.trial_id,
        ClaimRow.job_id,
        TrialRow.state,
        func.coalesce(JobRow.lease_expires_at > database_time(), false()).label("leased"),
    )
    .join(JobRow, JobRow.id == ClaimRow.job_id)
    .join(TrialRow, TrialRow.id == ClaimRow.trial_id)
    .where(ClaimRow.context == bindparam("namespace"), ClaimRow.key.in_(bindparam("keys", expanding=True)))
)
_FIND_EVALUATIONS = (
    select(
        EvaluationRow.key,
        EvaluationRow.tier,
        EvaluationRow.trial_id,
        EvaluationRow.job_id,
        EvaluationRow.metrics,
        EvaluationRow.values,
    )
    .where(
        EvaluationRow.context == bindparam("context"),
        EvaluationRow.key.in_(bindparam("keys", expanding=True)),
    )
    .order_by(EvaluationRow.id)  # the first is served for ever, so that a resume repeats itself
)


@dataclass(frozen=True)
class RecallPolicy:
    """Which earlier results may be served.

    `context` is the namespace in which keys are comparable, `scope` whether other jobs' results count.
    `shared` names the objective values that a result must bring along to be served, those apart that the
    candidate has itself (the static ones). `completed` adds what is computed from served values.
    """

    context: str
    scope: Literal["catalog", "job"]
    shared: frozenset[str]
    completed: Callable[[Mapping[str, float]], Mapping[str, float]] = dict


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


@dataclass(frozen=True)
class Failed:
    """Its own code raised before it could be launched."""

    trial_id: int
    reason: str
    error: Mapping[str, Any]


Decision = Launch | Recall | Wait | Infeasible | Failed


@dataclass(frozen=True)
class Question:
    """A queued trial to be decided on: its next attempt's number, its keys, its static values."""

    trial_id: int
    attempt: int
    keys: Sequence[Key]
    values: Mapping[str, float]


def decide(
    connection: Connection, questions: Sequence[Question], policy: RecallPolicy | None, job_id: str
) -> list[Decision]:
    """Decide on queued trials, one after the other, and claim the keys of those to be launched.

    Changes no trial. Of two with a common key, the second waits for the first.
    """
    keys = {key.digest for question in questions for key in question.keys}
    if policy is None or not keys:
        return [_launch(question, "nothing to recall by") for question in questions]
    memory = _Memory(connection, policy, job_id, keys)
    decisions = [memory.decide(question) for question in questions]
    memory.save()
    return decisions


@dataclass(frozen=True)
class _Claim:
    trial_id: int
    job_id: str
    alive: bool


@dataclass(frozen=True)
class _Evaluation:
    tier: str
    trial_id: int
    job_id: str
    metrics: Mapping[str, float]
    values: Mapping[str, float]


class _Memory:
    """All that is known of some keys, read in two statements whatever their number."""

    def __init__(
        self, connection: Connection, policy: RecallPolicy, job_id: str, keys: Iterable[str]
    ) -> None:
        self._connection = connection
        self._policy = policy
        self._job_id = job_id
        self._taken: dict[str, int] = {}
        # A job that recalls only its own results must not be held up by another's claims.
        own = policy.scope == "job"
        self._namespace = digest([policy.context, job_id]) if own else policy.context
        wanted = sorted(keys)
        if connection.dialect.name == "postgresql":  # SQLite has one writer anyway
            connection.execute(select(func.pg_advisory_xact_lock(_lock_number(self._namespace))))
        # Claims first: who gives one up has its evaluation committed in the same transaction, so a
        # claim that is no longer seen here is answered by the second statement.
        self._claims = self._read_claims(wanted)
        self._known = self._read_evaluations(wanted)

    def decide(self, question: Question) -> Decision:
        for key in question.keys:
            for row in self._known.get(key.digest, ()):
                if self._policy.shared <= row.values.keys() | question.values.keys():
                    return self._recall(question, row)
        for key in question.keys:
            claim = self._claims.get(key.digest)
            if claim is not None and claim.alive:
                reason = f"trial id {claim.trial_id} of job {claim.job_id} runs the same"
                return Wait(question.trial_id, claim.trial_id, reason)
        for key in question.keys:
            self._claims[key.digest] = _Claim(question.trial_id, self._job_id, alive=True)
            self._taken[key.digest] = question.trial_id
        return _launch(question, "unknown so far" if question.keys else "nothing to recall by")

    def save(self) -> None:
        """Write the claims that were made."""
        rows = [
            {"context": self._namespace, "key": key, "job_id": self._job_id, "trial_id": trial_id}
            for key, trial_id in self._taken.items()
        ]
        upsert(self._connection, table_of(ClaimRow), rows)

    def _recall(self, question: Question, row: _Evaluation) -> Recall:
        served = {name: value for name, value in row.values.items() if name in self._policy.shared}
        return Recall(
            question.trial_id,
            row.trial_id,
            row.tier,
            row.metrics,
            self._policy.completed({**served, **question.values}),
            f"{row.tier} match with trial id {row.trial_id} of job {row.job_id}",
        )

    def _read_claims(self, keys: Sequence[str]) -> dict[str, _Claim]:
        rows = self._connection.execute(_FIND_CLAIMS, {"namespace": self._namespace, "keys": keys})
        # A claim of this very job stands while its trial runs: one that was queued again is decided on
        # by this driver, which must not make the two wait for each other in turn.
        return {
            row.key: _Claim(
                row.trial_id,
                row.job_id,
                row.state == "running" if row.job_id == self._job_id else bool(row.leased),
            )
            for row in rows
        }

    def _read_evaluations(self, keys: Sequence[str]) -> dict[str, list[_Evaluation]]:
        known: dict[str, list[_Evaluation]] = {}
        parameters = {"context": self._policy.context, "keys": keys}
        rows = self._connection.execute(_FIND_EVALUATIONS, parameters)
        for key, tier, trial_id, job_id, metrics, values in rows:
            if self._policy.scope == "catalog" or job_id == self._job_id:
                known.setdefault(key, []).append(_Evaluation(tier, trial_id, job_id, metrics, values))
        return known


def _launch(question: Question, reason: str) -> Launch:
    return Launch(question.trial_id, question.attempt, reason)


def _lock_number(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
