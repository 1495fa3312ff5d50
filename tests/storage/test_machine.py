"""Any sequence of what two drivers of one catalog may do, compared with a model that fits in a page."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
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
from sqlalchemy import func, select

from orchestrate.core.errors import CatalogError, StaleLeaseError
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.check import check
from orchestrate.storage.ledger import Decision, Launch, Recall, Wait
from orchestrate.storage.models import TERMINAL_TRIAL_STATES, EvaluationRow
from tests.storage.conftest import POLICY, Driver, proposal, result, started

KEYS = ("a", "b", "c")
WHICH = st.integers(0, 1)
PICK = st.integers(0, 99)


@dataclass
class Known:
    """A trial as the model has it."""

    job: int
    key: str
    state: str
    attempts: int = 0
    source: int | None = None


class TwoDrivers(RuleBasedStateMachine):
    template: Path

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.mkdtemp()
        path = Path(self.folder, "catalog.db")
        shutil.copy(self.template, path)
        self.catalog = Catalog.open(str(path))
        self.drivers = [started(self.catalog, "one"), started(self.catalog, "two")]
        self.former: list[Driver] = []
        self.next = [0, 0]
        self.trials: dict[int, Known] = {}
        self.first: dict[str, int] = {}  # the trial that answers for a key
        self.holder: dict[str, int] = {}  # the trial that runs (or ran last) under a key

    def teardown(self) -> None:
        if hasattr(self, "catalog"):
            self.catalog.close()
            shutil.rmtree(self.folder)

    def among(self, job: int, *states: str) -> list[int]:
        return [ident for ident, known in self.trials.items() if known.job == job and known.state in states]

    def expect(self, ident: int, decision: Decision) -> None:
        known = self.trials[ident]
        holder = self.holder.get(known.key)
        if known.key in self.first:
            assert isinstance(decision, Recall)
            assert decision.source_id == self.first[known.key]
            known.state, known.source = "recalled", self.first[known.key]
            self.release(ident)
        elif holder is not None and holder != ident and self.stands(holder, known.job):
            assert isinstance(decision, Wait)
            assert decision.holder_id == holder
        else:
            assert isinstance(decision, Launch)
            known.state, known.attempts = "running", known.attempts + 1
            assert decision.attempt == known.attempts
            self.holder[known.key] = ident

    def stands(self, holder: int, job: int) -> bool:
        known = self.trials[holder]
        return known.state == "running" if known.job == job else known.state in ("running", "queued")

    def release(self, ident: int) -> None:
        if self.holder.get(self.trials[ident].key) == ident:
            del self.holder[self.trials[ident].key]

    @rule(job=WHICH, keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=3))
    def propose(self, job: int, keys: list[str]) -> None:
        proposals = [proposal(self.next[job] + index, key) for index, key in enumerate(keys)]
        self.next[job] += len(keys)
        for key, decision in zip(keys, self.drivers[job].ask(*proposals), strict=True):
            self.trials[decision.trial_id] = Known(job, key, "queued")
            self.expect(decision.trial_id, decision)

    @rule(job=WHICH)
    def reconsider(self, job: int) -> None:
        queued = self.among(job, "queued")
        decisions = self.drivers[job].ledger.reconsider(queued, POLICY)
        for ident, decision in zip(queued, decisions, strict=True):
            self.expect(ident, decision)

    @rule(job=WHICH, pick=PICK, state=st.sampled_from(("finished", "pruned")))
    def finish(self, job: int, pick: int, state: str) -> None:
        if running := self.among(job, "running"):
            ident = running[pick % len(running)]
            self.drivers[job].ledger.finish([result(ident, state, accuracy=ident / 100)])
            self.trials[ident].state = state
            if state == "finished":
                self.first.setdefault(self.trials[ident].key, ident)
            self.release(ident)

    @rule(job=WHICH, pick=PICK, state=st.sampled_from(("failed", "lost")), retry=st.booleans())
    def fail(self, job: int, pick: int, state: str, retry: bool) -> None:
        if running := self.among(job, "running"):
            ident = running[pick % len(running)]
            self.drivers[job].ledger.fail(ident, state, {"type": "Error"}, "why", retry=retry)
            self.trials[ident].state = "queued" if retry else state
            if not retry:
                self.release(ident)

    @rule(job=WHICH)
    def interrupt(self, job: int) -> None:
        running = self.among(job, "running")
        self.drivers[job].ledger.interrupt(running, "Ctrl-C")
        for ident in running:
            self.trials[ident].state = "queued"

    @rule(job=WHICH, pick=PICK)
    def cancel(self, job: int, pick: int) -> None:
        if active := self.among(job, "queued", "running"):
            ident = active[pick % len(active)]
            self.drivers[job].ledger.cancel([ident], "unwanted")
            self.trials[ident].state = "cancelled"
            self.release(ident)

    @rule(job=WHICH)
    def die_and_be_taken_over(self, job: int) -> None:
        self.former.append(self.drivers[job])
        self.drivers[job].die()
        self.drivers[job] = self.drivers[job].revived()
        for ident in self.among(job, "running"):
            self.trials[ident].state = "queued"

    @rule(job=WHICH, pick=PICK)
    def write_too_late(self, job: int, pick: int) -> None:
        if over := self.among(job, *TERMINAL_TRIAL_STATES):
            with pytest.raises(CatalogError, match="already"):
                self.drivers[job].ledger.finish([result(over[pick % len(over)], accuracy=9.0)])

    @precondition(lambda self: self.former)
    @rule(pick=PICK)
    def write_as_a_former_driver(self, pick: int) -> None:
        with pytest.raises(StaleLeaseError):
            self.former[pick % len(self.former)].ask(proposal(1000))

    @invariant()
    def the_catalog_agrees(self) -> None:
        if not hasattr(self, "catalog"):
            return
        found: dict[int, Any] = {row.id: row for row in self.catalog.trials()}
        assert found.keys() == self.trials.keys()
        for ident, known in self.trials.items():
            row = found[ident]
            assert (row.state, row.attempts, row.recalled_from) == (
                known.state,
                known.attempts,
                known.source,
            )
            if known.state == "recalled":
                assert row.values == {"accuracy": known.source / 100}
        with self.catalog.engine.connect() as connection:
            evaluations = connection.scalar(select(func.count()).select_from(EvaluationRow))
        assert evaluations == sum(known.state == "finished" for known in self.trials.values())
        assert check(self.catalog) == []


def test_any_sequence_of_changes(tmp_path: Path) -> None:
    TwoDrivers.template = tmp_path / "template.db"
    Catalog.open(str(TwoDrivers.template)).close()
    run_state_machine_as_test(
        TwoDrivers,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
