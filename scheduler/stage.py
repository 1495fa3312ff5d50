"""One stage's trials, from ask to tell: the part of the scheduler that decides.

Tune drives it (see `tune`) but it knows nothing of Tune, nor of Ray: it hands out launches and is told
what became of them. Every change is in the catalog before the sampler or a listener hears of it.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..core.candidate import Candidate
from ..core.errors import SpaceExhausted
from ..core.hookspecs import TrialEvent
from ..core.job import Job, Stage
from ..core.objective import StaticObjective
from ..core.sampler import Outcome, Sampler, finite
from ..storage.artifacts import NewArtifact
from ..storage.asks import reason_of
from ..storage.ledger import (
    Decision,
    Failed,
    Launch,
    Ledger,
    Proposal,
    Recall,
    RecallPolicy,
    Refuse,
    Report,
    Result,
    Wait,
)
from ..storage.models import TERMINAL_TRIAL_STATES
from .account import Account
from .breaker import Breaker
from .examine import Examination, Examiner
from .history import observation, restore_sampler
from .trial import Json, TrialOrder, compared_value, reported_values

log = logging.getLogger(__name__)

EXAMINATION_WAIT = 0.1  # seconds an ask waits for the examiner before it lets the loop turn
ANSWERING_LIMIT = 0.25  # seconds an ask spends on recalled candidates before it lets the loop turn
INFEASIBLE_LIMIT = 10_000  # infeasible candidates in a row after which the space counts as empty
POLL_SECONDS = 1.0  # how often a candidate in flight in another job is asked after

Listener = Callable[..., None]


@dataclass
class Ticket:
    """A trial that isn't over."""

    number: int
    candidate: Candidate
    trial_id: int = 0
    attempt: int = 0
    values: dict[str, float] = field(default_factory=dict[str, float])
    timings: dict[str, float] = field(default_factory=dict[str, float])
    after: int = 0
    """How many tells the sampler had heard when it proposed this."""
    holder: int | None = None
    recall: Recall | None = None
    """The answer, where only the measured objectives are still to be made."""
    failed: int = 0
    lost: int = 0
    decided_at: float = 0.0


@dataclass
class Launched:
    """Tickets that travel together, and when they left."""

    number: int
    tickets: list[Ticket]
    started_at: float = 0.0


class StageRun:
    """Runs the trials of one stage. All calls come on one thread."""

    def __init__(
        self,
        stage: Stage,
        job: Job,
        stage_id: int,
        ledger: Ledger,
        sampler: Sampler,
        policy: RecallPolicy | None,
        executor: Executor,
        listener: Listener,
        artifacts: Callable[[Candidate], Mapping[str, Mapping[str, tuple[str, str]]]],
        deadline: float | None = None,
        should_stop: Callable[[], str | None] = lambda: None,
        examiner: Examiner | None = None,
    ) -> None:
        self.stage = stage
        self.job = job
        self.stage_id = stage_id
        self.ledger = ledger
        self.sampler = sampler
        self.policy = policy
        self.deadline = deadline
        self.reason = ""
        """Why the stage ended, when it wasn't simply through."""
        self.broken = False
        """Whether it ended because it can't go on (failure budget, empty space)."""
        self.paused = False
        """Whether it ended because trials keep failing in the same way: someone should look."""
        self.examiner = examiner or Examiner(stage, job)
        self.account = Account(stage)
        self._breaker = Breaker(stage.retry)
        self._executor = executor
        self._listener = listener
        self._artifacts = artifacts
        self._should_stop = should_stop
        self._ready: deque[Ticket] = deque()
        self._parked: dict[int, Ticket] = {}
        self._examining: deque[tuple[Ticket, Future[Examination]]] = deque()
        self._running: dict[int, Launched] = {}
        self._asked = 0  # number of the next ask
        self._counted = 0  # asks that count as trials: all but the infeasible
        self._infeasible_in_a_row = 0
        self._told = 0  # results that the sampler has heard
        self._launches = 0
        self._exhausted = False
        self._polled_at = 0.0
        self._own: set[int] = set()  # trials launched here, whose end is known at once

    # Restoring ------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Bring the sampler back to where the event log ends, and queue what isn't finished."""
        events = self.ledger.catalog.events(self.stage_id)
        self.sampler = restore_sampler(self.sampler, self.stage, events)
        self._told = sum(kind == "tell" for kind, _ in events)
        rows = self.ledger.catalog.trials(stage_id=self.stage_id)
        self._asked = max((row.number for row in rows), default=-1) + 1
        self._counted = sum(row.state != "infeasible" for row in rows)
        self._breaker.restore(rows)
        self.account.restore(rows, self.ledger.catalog.hits(self.stage_id))
        self._weigh_hashing()
        for row in rows:
            if row.state not in TERMINAL_TRIAL_STATES:
                ticket = Ticket(row.number, Candidate(row.candidate), row.id, row.attempts, dict(row.values))
                ticket.timings = dict(row.timings)
                for attempt in self.ledger.catalog.attempts(row.id):
                    ticket.failed += attempt.state == "failed"
                    ticket.lost += attempt.state == "lost"
                self._parked[row.id] = ticket

    # What the engine calls ------------------------------------------------------------------------

    def ask(self) -> tuple[int, list[Json]] | None:
        """Give the next launch: its number and its trials' orders. None: not now."""
        try:
            self._advance()
        except SpaceExhausted:
            self._exhausted = True
        if not self._ready or (len(self._ready) < self.stage.batch and self._examining):
            return None
        batch = [self._ready.popleft() for _ in range(min(self.stage.batch, len(self._ready)))]
        launch = Launched(self._launches, batch)
        self._launches += 1
        self._running[launch.number] = launch
        return launch.number, [self._order(ticket).data() for ticket in batch]

    def exhausted(self) -> bool:
        """Whether nothing is running and nothing will be asked any more."""
        idle = not (self._running or self._ready or self._parked or self._examining)
        return idle and not self._may_ask()

    def stopping(self) -> bool:
        """Whether to stop at once, running trials included."""
        if not self.broken and (why := self._should_stop()):
            self.reason = why
            return True
        return self.broken or self.paused

    def started(self, number: int) -> None:
        """A launch begins to run on a worker."""
        launch = self._running[number]
        launch.started_at = time.time()
        for ticket in launch.tickets:
            ticket.timings["launch"] = launch.started_at - ticket.decided_at
            self._notify("trial_started", ticket, "running")

    def reported(self, number: int, reports: Sequence[Json]) -> None:
        """Running trials reported metrics."""
        tickets = {ticket.number: ticket for ticket in self._running[number].tickets}
        self.ledger.report([(tickets[report["number"]].trial_id, _report(report)) for report in reports])
        for report in reports:
            ticket = tickets[report["number"]]
            metrics, step = report["metrics"], report["step"]
            event = self._event(ticket, "running", "")
            self._listener("trial_reported", event=event, metrics=metrics, step=step)

    def ended(self, number: int, conclusions: Sequence[Json], node: str = "") -> None:
        """A launch came to its end: one conclusion a trial, finished or failed."""
        launch = self._running.pop(number)
        tickets = {ticket.trial_id: ticket for ticket in launch.tickets}
        finished: list[tuple[Ticket, Result]] = []
        for conclusion in conclusions:
            ticket = tickets.pop(conclusion["trial_id"])
            ticket.timings["run"] = conclusion["seconds"]
            if conclusion["state"] == "finished":
                finished.append((ticket, self._result(ticket, conclusion, node)))
            elif conclusion["state"] == "pruned":
                pruned = self._pruned(
                    ticket, conclusion["reason"], conclusion["metrics"], conclusion["steps"]
                )
                finished.append((ticket, pruned))
            else:
                self._failed(ticket, conclusion["state"], conclusion["error"])
        self._record(finished)
        for ticket in tickets.values():
            self._failed(
                ticket,
                "failed",
                {"type": "TrialError", "message": "the program's batch gave no result for it"},
            )

    def pruned(self, number: int, reason: str) -> None:
        """A launch was stopped early."""
        launch = self._running.pop(number)
        records: list[tuple[Ticket, Result]] = []
        for ticket in launch.tickets:
            if launch.started_at:
                ticket.timings["run"] = time.time() - launch.started_at
            last = next(iter(self.ledger.catalog.reports(ticket.trial_id)[-1:]), None)
            metrics, steps = (dict(last.metrics), last.step) if last else ({}, None)
            records.append((ticket, self._pruned(ticket, reason, metrics, steps)))
        self._record(records)

    def _pruned(self, ticket: Ticket, reason: str, metrics: dict[str, float], steps: int | None) -> Result:
        values = reported_values(self.stage, metrics, ticket.values)
        return Result(
            *(ticket.trial_id, "pruned", reason, metrics, values, ticket.timings),
            attempt=ticket.attempt,
            steps=steps,
        )

    def lost(self, number: int, error: BaseException | str | None) -> None:
        """A launch's process or node is gone."""
        launch = self._running.pop(number)
        message = str(error).strip() if error else "the worker process died"
        for ticket in launch.tickets:
            self._failed(
                ticket,
                "lost",
                {"type": type(error).__name__, "message": message, "traceback": "", "frame": ""},
            )

    def reported_before(self) -> list[tuple[int, int, float]]:
        """Reports that an earlier driver heard: (trial id, step, what early stopping compares), in order."""
        static = {
            goal.name
            for goal, objective in zip(self.stage.goals, self.stage.objectives, strict=True)
            if isinstance(objective, StaticObjective)
        }
        catalog = self.ledger.catalog
        known = {
            row.id: {name: value for name, value in row.values.items() if name in static}
            for row in catalog.trials(stage_id=self.stage_id)
        }
        scored = [
            (row.trial_id, row.step, compared_value(self.stage, row.metrics, known[row.trial_id]))
            for row in catalog.reports_of_stage(self.stage_id)
        ]
        return [(trial_id, step, score) for trial_id, step, score in scored if score is not None]

    def interrupt(self, reason: str) -> None:
        """Put back what still runs, for a later resume."""
        running = [ticket.trial_id for launch in self._running.values() for ticket in launch.tickets]
        waiting = [ticket.trial_id for ticket in self._ready]
        if running or waiting:
            self.ledger.interrupt([*running, *waiting], reason)
        self._running.clear()
        self._ready.clear()

    def cancel(self, reason: str) -> None:
        """End every trial that isn't over."""
        tickets = [ticket for launch in self._running.values() for ticket in launch.tickets]
        tickets += [*self._ready, *self._parked.values()]
        if tickets:
            self.ledger.cancel([ticket.trial_id for ticket in tickets], reason)
        for ticket in tickets:
            self._notify("trial_finished", ticket, "cancelled", reason)
        self._running.clear()
        self._ready.clear()
        self._parked.clear()

    # Asking ---------------------------------------------------------------------------------------

    def _may_ask(self) -> bool:
        if self._exhausted or self.broken or self.paused:
            return False
        if self.deadline is not None and time.time() >= self.deadline:
            self.reason = self.reason or "the time budget is used up"
            return False
        if why := self.account.why_stop():
            self.reason = self.reason or why
            return False
        budget = self.stage.spec.trials
        return budget is None or self._counted < budget

    def _advance(self) -> None:
        """Fill the queue of launches up to one batch."""
        until = time.monotonic() + ANSWERING_LIMIT
        while len(self._ready) < self.stage.batch and time.monotonic() < until:
            if self._reconsider():
                continue
            if not self._examining:
                if not self._may_ask() or len(self._parked) > 2 * self.stage.batch + 8:
                    return
                self._ask_sampler(self.stage.batch - len(self._ready))
                if not self._examining:
                    return  # what is undecided may use up the budget of trainings
            # A batch is recorded as a whole: it can't be launched before, and one transaction costs less.
            futures = [future for _, future in self._examining]
            if wait(futures, timeout=EXAMINATION_WAIT).not_done:
                return
            examined = [(ticket, future.result()) for ticket, future in self._examining]
            self._examining.clear()
            self._propose(examined)

    def _ask_sampler(self, wanted: int) -> None:
        budget = self.stage.spec.trials
        room = wanted if budget is None else min(wanted, budget - self._counted)
        left = self.account.room(len(self._examining) + len(self._parked))
        room = room if left is None else min(room, left)
        for _ in range(room):
            begun = time.perf_counter()
            try:
                candidate = self.sampler.ask(self._asked)
            except SpaceExhausted:
                self._exhausted = True
                return
            spent = time.perf_counter() - begun
            ticket = Ticket(self._asked, candidate, timings={"propose": spent}, after=self._told)
            self._asked += 1
            self._counted += 1
            self._examining.append((ticket, self._executor.submit(self.examiner, candidate)))
        if metrics := finite(self.sampler.diagnostics()):
            self.ledger.diagnose(self.stage_id, self._asked, metrics)

    def _propose(self, examined: Iterable[tuple[Ticket, Examination]]) -> None:
        pairs = list(examined)
        proposals: list[Proposal] = []
        for ticket, examination in pairs:
            ticket.values = dict(examination.values)
            ticket.timings["static"] = examination.seconds
            ticket.timings["fingerprint"] = examination.hash_seconds
            if examination.infeasible is None:
                self.account.examined(ticket.number, ticket.candidate.digest, examination.hash_seconds)
            proposals.append(
                Proposal(
                    number=ticket.number,
                    candidate=ticket.candidate,
                    seed=self.stage.trial_seed(ticket.number),
                    print=examination.print,
                    values=ticket.values,
                    timings=ticket.timings,
                    infeasible=examination.infeasible,
                    error=examination.error,
                    after=ticket.after,
                )
            )
        begun = time.perf_counter()
        decisions = self.ledger.propose(self.stage_id, proposals, self.policy)
        spent = (time.perf_counter() - begun) / len(proposals)
        for (ticket, _), decision in zip(pairs, decisions, strict=True):
            ticket.trial_id = decision.trial_id
            ticket.timings["recall"] = spent
            self._decided(ticket, decision)

    def _reconsider(self) -> bool:
        """Decide anew on parked trials: retries, interrupted ones, and those whose leader is done.

        Returns whether any of them isn't parked any more.
        """
        if not self._parked:
            return False
        busy = {ticket.trial_id for launch in self._running.values() for ticket in launch.tickets}
        busy |= {ticket.trial_id for ticket in self._ready}
        due = [
            ticket for ticket in self._parked.values() if ticket.holder is None or ticket.holder not in busy
        ]
        if any(ticket.holder is not None and ticket.holder not in self._own for ticket in due):
            if time.monotonic() - self._polled_at < POLL_SECONDS:
                due = [ticket for ticket in due if ticket.holder is None or ticket.holder in self._own]
            else:
                self._polled_at = time.monotonic()
        due = sorted(due, key=lambda ticket: ticket.number)[: self.stage.batch - len(self._ready)]
        if not due:
            return False
        decisions = self.ledger.reconsider([ticket.trial_id for ticket in due], self.policy)
        for ticket, decision in zip(due, decisions, strict=True):
            del self._parked[ticket.trial_id]
            self._decided(ticket, decision)
        return not all(isinstance(decision, Wait) for decision in decisions)

    def _decided(self, ticket: Ticket, decision: Decision) -> None:
        if isinstance(decision, Launch):
            self._infeasible_in_a_row = 0
            ticket.attempt = decision.attempt
            ticket.holder = None
            ticket.recall = decision.recall
            if decision.recall is None:
                self.account.launched(ticket.number)
            self._own.add(ticket.trial_id)
            ticket.decided_at = time.time()
            self._ready.append(ticket)
        elif isinstance(decision, Wait):
            ticket.holder = decision.holder_id
            self._parked[ticket.trial_id] = ticket
        elif isinstance(decision, Recall):
            self._infeasible_in_a_row = 0
            self._recalled(ticket, decision, decision.values)
        elif isinstance(decision, Refuse):
            self._tell(ticket, "failed", decision.reason)
        elif isinstance(decision, Failed):
            self._failed_for_good(ticket, "failed", decision.reason)
            self._note_failure(decision.error)
        else:
            self._counted -= 1
            self._infeasible_in_a_row += 1
            self._tell(ticket, "infeasible", decision.reason)
            if self._infeasible_in_a_row >= INFEASIBLE_LIMIT:
                self.broken = True
                self.reason = (
                    f"{INFEASIBLE_LIMIT} candidates in a row broke a bound (the last: {decision.reason}): "
                    "the bounds leave little or nothing of the space; relax them"
                )

    def _order(self, ticket: Ticket) -> TrialOrder:
        return TrialOrder(
            trial_id=ticket.trial_id,
            number=ticket.number,
            candidate=dict(ticket.candidate),
            seed=self.stage.trial_seed(ticket.number),
            attempt=ticket.attempt,
            values=ticket.values,
            artifacts=self._artifacts(ticket.candidate),
            served=None if ticket.recall is None else dict(ticket.recall.metrics),
        )

    # Telling --------------------------------------------------------------------------------------

    def _result(self, ticket: Ticket, conclusion: Json, node: str) -> Result:
        ticket.values = conclusion["values"]
        ticket.timings["measure"] = conclusion.get("measure_seconds", 0.0)
        answer = ticket.recall
        return Result(
            trial_id=ticket.trial_id,
            state="recalled" if answer else "finished",
            reason=answer.reason if answer else "",
            recalled_from=answer.source_id if answer else None,
            metrics=conclusion["metrics"],
            values=conclusion["values"],
            timings=ticket.timings,
            artifacts=[NewArtifact(**artifact) for artifact in conclusion["artifacts"]],
            node=node,
            attempt=ticket.attempt,
        )

    def _record(self, records: Sequence[tuple[Ticket, Result]]) -> None:
        if not records:
            return
        ended = self.ledger.finish([result for _, result in records])
        self._breaker.succeeded()
        for ticket, result in records:
            if ticket.trial_id not in ended:
                log.warning("trial %d: a result came too late and counts no more", ticket.number)
                continue
            ticket.values = ended[ticket.trial_id]
            if ticket.recall is not None and result.state == "recalled":
                self._recalled(ticket, ticket.recall, ticket.values)
            else:
                self._tell(ticket, "pruned" if result.state == "pruned" else "finished", result.reason)

    def _recalled(self, ticket: Ticket, answer: Recall, values: Mapping[str, float]) -> None:
        ticket.values = dict(values)
        self.account.answered(ticket.number, answer.tier, answer.seconds)
        self._tell(ticket, "recalled", answer.reason)
        self._weigh_hashing()

    def _weigh_hashing(self) -> None:
        """Go on without functional keys once they cost more than they save."""
        if self.examiner.hashing and (loss := self.account.loss()) is not None:
            self.examiner.hashing = False
            log.warning(
                "stage %s: hashing took %.3g s over the last trials and saved %.3g s; from here on only "
                "equal candidates are recalled (`recall: {window: null}` keeps hashing)",
                self.stage.spec.name,
                *loss,
            )

    def _failed(self, ticket: Ticket, state: str, error: Mapping[str, Any]) -> None:
        lost = state == "lost"
        ticket.lost += lost
        ticket.failed += not lost
        again = ticket.lost <= self.stage.retry.lost if lost else ticket.failed <= self.stage.retry.failed
        reason = reason_of(error)
        self.ledger.fail(ticket.trial_id, "lost" if lost else "failed", dict(error), reason, retry=again)
        if again:
            ticket.holder = None
            self._parked[ticket.trial_id] = ticket
        else:
            self._failed_for_good(ticket, "lost" if lost else "failed", reason)
        if not lost:
            self._note_failure(error)

    def _failed_for_good(self, ticket: Ticket, state: Outcome, reason: str) -> None:
        self._tell(ticket, state, reason)
        if why := self._breaker.gave_up(reason):
            self.broken, self.reason = True, why

    def _note_failure(self, error: Mapping[str, Any]) -> None:
        why = self._breaker.failed(error)
        if why and not self.broken:
            self.paused, self.reason = True, why

    def _tell(self, ticket: Ticket, outcome: Outcome, reason: str) -> None:
        self._told += 1
        self.sampler.tell(ticket.number, ticket.candidate, observation(self.stage, outcome, ticket.values))
        self._notify("trial_finished", ticket, outcome, reason)

    def _event(self, ticket: Ticket, state: str, reason: str) -> TrialEvent:
        return TrialEvent(
            self.ledger.job_id,
            self.stage.spec.name,
            ticket.number,
            ticket.candidate,
            state,
            dict(ticket.values),
            reason,
        )

    def _notify(self, hook: str, ticket: Ticket, state: str, reason: str = "") -> None:
        self._listener(hook, event=self._event(ticket, state, reason))


def _report(report: Json) -> Report:
    return Report(report["step"], report["metrics"], datetime.fromisoformat(report["at"]))
