"""Decides on proposed candidates: run it, answer it from earlier trials, refuse it, or let it wait."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, tuple_, update

from ...core.seeds import generator
from ..engine import insert_once, upsert
from ..models import ClaimRow, HitRow, NamespaceRow, TrialRow, table_of
from .aggregate import mean, standard_error
from .decisions import Decision, Launch, Question, Recall, RecallPolicy, Refuse, Wait
from .memory import Claim, Evaluation, Known, Memory
from .publish import clock

_TRIALS = table_of(TrialRow)
_PLACE_TRIAL = (
    update(_TRIALS)
    .where(_TRIALS.c.id == bindparam("this"))
    .values(class_id=bindparam("class_id"), tier=bindparam("tier"))
)
_INSERT_HITS = insert(table_of(HitRow))

FORGET, AUDIT = 1, 2
"""What a trial's seed draws for, besides its run: nodes of its seed tree."""


def open_memory(connection: Connection, policy: RecallPolicy, job_id: str, fields: Mapping[str, Any]) -> None:
    """Make the memory known, with what its prints share."""
    row = {
        "memory": policy.memory(job_id),
        "context": policy.context,
        "job_id": job_id if policy.scope == "job" else None,
        "fields": dict(fields),
        "created_at": clock(),
    }
    insert_once(connection, table_of(NamespaceRow), [row])


def decide(
    connection: Connection, questions: Sequence[Question], policy: RecallPolicy | None, job_id: str
) -> list[Decision]:
    """Decide on queued trials, one after the other, and claim the classes of those to be launched.

    Changes no trial but for the class it belongs to. Of two of one class, the second waits for the first.
    """
    if policy is None or not any(question.known or question.print.keys for question in questions):
        return [_plain(question, "nothing to recall by") for question in questions]
    return _Decider(connection, policy, job_id).decide(questions)


def place_trials(connection: Connection, places: Mapping[int, tuple[Known, str]]) -> None:
    """Write the classes that trials belong to."""
    rows = [
        {"this": trial_id, "class_id": known.id, "tier": tier} for trial_id, (known, tier) in places.items()
    ]
    if rows:
        connection.execute(_PLACE_TRIAL, rows)


class _Decider:
    def __init__(self, connection: Connection, policy: RecallPolicy, job_id: str) -> None:
        self._connection = connection
        self._policy = policy
        self._job_id = job_id
        self._memory = Memory(connection, policy.memory(job_id), job_id)
        self._places: dict[int, tuple[Known, str]] = {}
        self._placed: list[int] = []
        self._claims: list[tuple[Known, int]] = []
        self._stale: list[tuple[int, int]] = []
        self._hits: list[tuple[Question, Known, Recall, bool]] = []

    def decide(self, questions: Sequence[Question]) -> list[Decision]:
        self._place(questions)
        self._memory.load_results((known for known, _ in self._places.values()), self._policy.steps)
        decisions = [self._one(question) for question in questions]
        self._save()
        return decisions

    def _place(self, questions: Iterable[Question]) -> None:
        asked = list(questions)
        self._memory.load(
            (one.print for one in asked if one.known is None),
            (one.known.class_id for one in asked if one.known is not None),
        )
        for one in asked:
            if one.known is not None:
                self._places[one.trial_id] = (self._memory.by_id(one.known.class_id), one.known.tier)
            elif one.print.keys:
                self._places[one.trial_id] = self._memory.place(one.print)
                self._placed.append(one.trial_id)

    def _one(self, question: Question) -> Decision:
        if question.trial_id not in self._places:
            return _plain(question, "nothing to recall by")
        known, tier = self._places[question.trial_id]
        if known.state != "open":
            return _plain(question, f"its class is {known.state}")
        self._memory.use(known)
        good = self._good(known, question)
        if self._enough(good):
            return self._hit(question, known, self._answer(question, tier, good))
        if not good and (failed := self._failed(known)) is not None:
            return _refusal(question, failed)
        running = [one for one in known.claims if one.alive and one.trial_id != question.trial_id]
        if len(good) + len(running) >= self._policy.evaluations:
            holder = running[0]
            reason = f"trial id {holder.trial_id} of job {holder.job_id} runs the same"
            return Wait(question.trial_id, holder.trial_id, reason)
        self._claim(question, known)
        wanted = self._policy.evaluations
        reason = f"evaluation {len(good) + 1} of {wanted} of its class" if good else "unknown so far"
        return _plain(question, reason)

    # Hits -----------------------------------------------------------------------------------------

    def _good(self, known: Known, question: Question) -> list[Evaluation]:
        """The evaluations that may be served, the first so many."""
        found: list[Evaluation] = []
        for one in known.evaluations:
            view = _at(one, self._policy)
            fresh = self._policy.ttl is None or one.age <= self._policy.ttl
            if view is not None and fresh and self._policy.shared <= view.values.keys() | question.values:
                found.append(view)
        return found[: self._policy.evaluations]

    def _enough(self, good: Sequence[Evaluation]) -> bool:
        if len(good) >= self._policy.evaluations:
            return True
        wanted, lead = self._policy.standard_error, self._policy.lead
        if wanted is None or lead is None or len(good) < 2:
            return False
        return standard_error([one.values[lead] for one in good]) <= wanted

    def _answer(self, question: Question, tier: str, good: Sequence[Evaluation]) -> Recall:
        equal = next((one for one in good if one.digest == question.digest), None)
        metrics = mean([one.metrics for one in good])
        values = mean([one.values for one in good])
        if equal is None:
            metrics = {name: value for name, value in metrics.items() if name not in self._policy.unshared}
            values = {name: value for name, value in values.items() if name in self._policy.shared}
        else:
            kept = self._policy.shared | self._policy.measured
            own = {name: value for name, value in equal.values.items() if name in self._policy.measured}
            values = {name: value for name, value in {**values, **own}.items() if name in kept}
        first = good[0]
        of = f"trial id {first.trial_id} of job {first.job_id}"
        several = f"; the mean of {len(good)} evaluations" if len(good) > 1 else ""
        return Recall(
            question.trial_id,
            first.trial_id,
            tier,
            metrics,
            self._policy.completed({**values, **question.values}),
            f"{tier} match with {of}{several}",
            tuple(one.id for one in good),
            sum(one.seconds for one in good) / len(good),
        )

    def _hit(self, question: Question, known: Known, answer: Recall) -> Decision:
        audited = _drawn(question, AUDIT) < self._policy.audit
        self._hits.append((question, known, answer, audited))
        if audited:
            return _plain(question, f"audit of a {answer.reason}")
        known.hits += 1
        known.since += 1
        every, probability = self._policy.forget_every, self._policy.forget_probability
        if (every is not None and known.since + 1 >= every) or _drawn(question, FORGET) < probability:
            known.forget()  # this hit is still served
        if self._policy.measured <= answer.values.keys():
            return answer
        missing = ", ".join(sorted(self._policy.measured - answer.values.keys()))
        return Launch(
            question.trial_id, question.attempt, f"{answer.reason}; {missing} to be measured", answer
        )

    def _failed(self, known: Known) -> Evaluation | None:
        limit = self._policy.failures
        if limit is None:
            return None
        return next((one for one in known.evaluations if one.status == "failed" and one.age <= limit), None)

    def _claim(self, question: Question, known: Known) -> None:
        # Who claims clears the claims that no longer stand: else two that both came back from a failure
        # would wait for each other.
        self._stale += [(known.id, one.trial_id) for one in known.claims if not one.alive]
        known.claims = [one for one in known.claims if one.alive and one.trial_id != question.trial_id]
        known.claims.append(Claim(question.trial_id, self._job_id, alive=True))
        self._claims.append((known, question.trial_id))

    # Writing --------------------------------------------------------------------------------------

    def _save(self) -> None:
        self._memory.save()
        place_trials(self._connection, {trial_id: self._places[trial_id] for trial_id in self._placed})
        if self._stale:
            stale = tuple_(ClaimRow.class_id, ClaimRow.trial_id).in_(self._stale)
            self._connection.execute(delete(table_of(ClaimRow)).where(stale))
        claims = [
            {"class_id": known.id, "trial_id": trial_id, "job_id": self._job_id}
            for known, trial_id in self._claims
        ]
        upsert(self._connection, table_of(ClaimRow), claims)
        now = clock()
        hits = [
            {
                "trial_id": question.trial_id,
                "class_id": known.id,
                "tier": answer.tier,
                "served": list(answer.served),
                "values": dict(answer.values),
                "hash_seconds": question.hash_seconds,
                "saved_seconds": 0.0 if audited else answer.seconds,
                "waited_seconds": question.waited,
                "audited": audited,
                "created_at": now,
            }
            for question, known, answer, audited in self._hits
        ]
        upsert(self._connection, table_of(HitRow), hits)


def _at(one: Evaluation, policy: RecallPolicy) -> Evaluation | None:
    """The evaluation as a run of the wanted length would have it; None where it can't tell."""
    if policy.steps is None or one.steps is None or one.steps == policy.steps:
        return one if one.status == "finished" else None
    if one.curve is None:
        return None
    values = {goal: one.curve[metric] for goal, metric in policy.metrics.items() if metric in one.curve}
    part = policy.steps / one.steps
    return Evaluation(
        *(one.id, one.trial_id, one.job_id, "finished", one.curve, values, None, policy.steps),
        *(one.seconds * part, one.digest, one.age),
    )


def _refusal(question: Question, failed: Evaluation) -> Refuse:
    error = dict(failed.error or {})
    what = f"{error.get('type', 'an error')}: {error.get('message', '')}".splitlines()[0][:300]
    reason = f"trial id {failed.trial_id} of job {failed.job_id}, which computes the same, failed: {what}"
    return Refuse(question.trial_id, failed.trial_id, error, reason)


def _drawn(question: Question, purpose: int) -> float:
    """A number in [0, 1) that only depends on the trial, so that a resumed job draws it again."""
    return float(generator(question.seed, purpose).random())


def _plain(question: Question, reason: str) -> Launch:
    return Launch(question.trial_id, question.attempt, reason)
