"""Messages that come twice, late, in another order, or to a driver that lost its job: one completion each.

Workers answer attempts; the answers wait in a network that delivers any of them at any time, to whichever
driver launched the attempt, again and again. Leases run out, drivers take over, jobs are cancelled.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestrate.core.errors import StaleLeaseError
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.check import check
from orchestrate.storage.ledger import Decision, Launch
from orchestrate.storage.models import TERMINAL_TRIAL_STATES, TrialRow
from tests.storage.conftest import POLICY, Driver, proposal, result, started

PICK = st.integers(0, 999)
FOLLOWS = {  # which states may come next
    "queued": {"queued", "running", *TERMINAL_TRIAL_STATES},
    "running": {"queued", "running", *TERMINAL_TRIAL_STATES} - {"infeasible"},
    **{state: {state} for state in TERMINAL_TRIAL_STATES},
}


@dataclass(frozen=True)
class Answer:
    """What a worker says of one attempt, to the driver that sent it."""

    driver: int
    trial_id: int
    attempt: int
    state: str


class Messages(RuleBasedStateMachine):
    template: Path

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.mkdtemp()
        shutil.copy(self.template, Path(self.folder, "catalog.db"))
        self.catalog = Catalog.open(str(Path(self.folder, "catalog.db")))
        self.drivers: list[Driver] = [started(self.catalog)]
        self.network: list[Answer] = []
        self.asked = 0
        self.accepted: Counter[int] = Counter()
        self.seen: dict[int, TrialRow] = {}
        self.cancelled = False

    def teardown(self) -> None:
        if hasattr(self, "catalog"):
            self.catalog.close()
            shutil.rmtree(self.folder)

    @property
    def driver(self) -> Driver:
        return self.drivers[-1]

    def queued(self) -> list[int]:
        return [row.id for row in self.catalog.trials(states=("queued",))]

    def heed(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Launch):
                for state in ("finished", "failed", "lost"):  # whichever comes about, or several
                    answer = Answer(len(self.drivers) - 1, decision.trial_id, decision.attempt, state)
                    self.network.append(answer)

    @rule(keys=st.lists(st.sampled_from("abc"), min_size=1, max_size=2))
    def propose(self, keys: list[str]) -> None:
        proposals = [proposal(self.asked + index, key) for index, key in enumerate(keys)]
        self.asked += len(keys)
        self.heed(self.driver.ask(*proposals))

    @rule()
    def reconsider(self) -> None:
        self.heed(self.driver.ledger.reconsider(self.queued(), POLICY))

    @precondition(lambda self: self.network)
    @rule(pick=PICK, keep=st.booleans())
    def deliver(self, pick: int, keep: bool) -> None:
        """A message arrives; kept, it will arrive again."""
        answer = self.network[pick % len(self.network)]
        if not keep:
            self.network.remove(answer)
        before = self.catalog.trial(answer.trial_id)
        counts = answer.driver == len(self.drivers) - 1
        current = counts and (before.state, before.attempts) == ("running", answer.attempt)
        ledger = self.drivers[answer.driver].ledger
        try:
            if answer.state == "finished":
                told = result(answer.trial_id, accuracy=answer.attempt / 10, attempt=answer.attempt)
                accepted = bool(ledger.finish([told]))
            else:
                if counts and not current:
                    return  # a driver knows which attempt runs, and fails no other
                ledger.fail(answer.trial_id, answer.state, {"type": "Error"}, "why", retry=answer.attempt < 3)
                accepted = True
        except StaleLeaseError:
            assert not counts
            accepted = False
        assert accepted == current
        after = self.catalog.trial(answer.trial_id)
        if not accepted:
            assert (after.state, after.values, after.attempts) == (
                before.state,
                before.values,
                before.attempts,
            )
        self.accepted[answer.trial_id] += accepted and after.state in TERMINAL_TRIAL_STATES

    @rule()
    def beat(self) -> None:
        assert self.driver.ledger.heartbeat() == self.cancelled
        assert self.catalog.owned(self.driver.job_id)

    @precondition(lambda self: len(self.drivers) > 1)
    @rule(pick=PICK)
    def beat_too_late(self, pick: int) -> None:
        former = self.drivers[pick % (len(self.drivers) - 1)]
        try:
            former.ledger.heartbeat()
        except StaleLeaseError:
            return
        raise AssertionError("a former driver prolonged the lease")

    @rule()
    def run_out_unnoticed(self) -> None:
        """The lease runs out and nobody comes: the driver goes on."""
        self.driver.die()

    @rule()
    def take_over(self) -> None:
        self.driver.die()
        self.drivers.append(self.driver.revived())

    @rule(pick=PICK)
    def cancel_one(self, pick: int) -> None:
        if active := self.catalog.trials(states=("queued", "running")):
            self.driver.ledger.cancel([active[pick % len(active)].id], "unwanted")

    @precondition(lambda self: not self.cancelled)
    @rule()
    def ask_to_cancel(self) -> None:
        self.driver.ledger.heartbeat()
        self.catalog.request_cancel(self.driver.job_id)
        self.cancelled = True

    @invariant()
    def states_only_go_forward_and_end_once(self) -> None:
        if not hasattr(self, "catalog"):
            return
        rows = {row.id: row for row in self.catalog.trials()}
        assert sorted(row.number for row in rows.values()) == list(range(self.asked))  # no budget is lost
        for ident, row in rows.items():
            before = self.seen.get(ident)
            if before is not None:
                assert row.state in FOLLOWS[before.state], (before.state, row.state)
                assert row.attempts >= before.attempts
                if before.state in TERMINAL_TRIAL_STATES:
                    assert (row.values, row.metrics, row.ended_at) == (
                        before.values,
                        before.metrics,
                        before.ended_at,
                    )
        self.seen = rows
        assert all(count <= 1 for count in self.accepted.values())
        tells = Counter(number for kind, number in self.driver.events() if kind == "tell")
        over = {row.number for row in rows.values() if row.state in TERMINAL_TRIAL_STATES}
        assert tells == Counter(over)
        finished = Counter(row.keys[0][1] for row in rows.values() if row.state == "finished")
        # An identity is computed again only where its answer wasn't there yet when it was decided on.
        assert all(count == 1 for count in finished.values()), finished
        assert check(self.catalog) == []


def test_whatever_arrives_whenever_each_trial_ends_once(tmp_path: Path) -> None:
    Messages.template = tmp_path / "template.db"
    Catalog.open(str(Messages.template)).close()
    run_state_machine_as_test(
        Messages,
        settings=settings(
            max_examples=20,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
