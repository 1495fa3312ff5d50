"""`StageRun` without Ray: an engine of a few lines drives it through hundreds of trials."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from orchestrate.core import Candidate, Job, Observation, Sampler, SpaceExhausted, resolve
from orchestrate.core.registry import Registry
from orchestrate.scheduler.selection import Taken
from orchestrate.scheduler.stage import StageRun
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.check import check
from orchestrate.storage.ledger import JobDraft, Ledger, RecallPolicy
from tests.scheduler.conftest import PARTS, job_data


class Recorder(Sampler):
    """Proposes from a list and remembers what it is told."""

    name = "recorder"
    summary = "a list"

    def __init__(self, candidates: list[Candidate]) -> None:
        super().__init__()
        self.candidates = candidates
        self.told: dict[int, Observation] = {}

    def ask(self, number: int) -> Candidate:
        if number >= len(self.candidates):
            raise SpaceExhausted("the list is through")
        return self.candidates[number]

    def tell(self, number: int, candidate: Candidate, observation: Observation) -> None:
        assert number not in self.told
        self.told[number] = observation


def open_stage(folder: Path, data: dict[str, Any], sampler: Sampler) -> tuple[StageRun, Ledger, Job]:
    job = resolve(data, Registry.discover())
    catalog = Catalog.open(str(folder / "catalog.db"))
    draft = JobDraft("test", data, "", 0, {}, ("search",))
    ledger = catalog.create_job(draft, "test", 60)
    stage_row = catalog.stages(ledger.job_id)[0]
    ledger.start_stage(stage_row.id, "context")
    stage = job.stages[0]
    sampler.start(stage.problem)
    policy = RecallPolicy("context", "catalog", frozenset({"loss"})) if stage.fingerprint else None
    executor = ThreadPoolExecutor(1)
    run = StageRun(
        stage, job, stage_row.id, ledger, sampler, policy, executor, lambda *_, **__: None, lambda _: {}
    )
    run.restore()
    return run, ledger, job


def drive(run: StageRun, width: int, seed: int, lose: float = 0.0, fail: float = 0.0) -> Counter[str]:
    """Run launches `width` at a time, ending them in random order; give the candidates that ran."""
    chance = random.Random(seed)
    running: dict[int, list[dict[str, Any]]] = {}
    ran: Counter[str] = Counter()
    for _ in range(100_000):
        if run.stopping() or run.exhausted():
            break
        asked = run.ask() if len(running) < width else None
        if asked is not None:
            number, orders = asked
            run.started(number)
            running[number] = orders
            continue
        if not running:
            continue
        number = chance.choice(list(running))
        orders = running.pop(number)
        if chance.random() < lose:
            run.lost(number, RuntimeError("the node is gone"))
            continue
        conclusions: list[dict[str, Any]] = []
        for order in orders:
            ran[order["candidate"]["which"]] += 1
            error = {"type": "ValueError", "message": "no", "traceback": "", "frame": ""}
            conclusion = {"trial_id": order["trial_id"], "seconds": 0.1}
            if chance.random() < fail:
                conclusions.append({**conclusion, "state": "failed", "error": error})
            else:
                metrics = {"loss": float(ord(order["candidate"]["which"]))}
                conclusions.append(
                    {
                        **conclusion,
                        "state": "finished",
                        "metrics": metrics,
                        "values": metrics,
                        "artifacts": [],
                    }
                )
        run.ended(number, conclusions)
    return ran


def letters(text: str) -> list[Candidate]:
    return [Candidate({"which": letter}) for letter in text]


slow = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@slow
@given(st.text("abc", min_size=1, max_size=30), st.integers(1, 5), st.integers(0, 99))
def test_each_distinct_candidate_runs_once_and_every_ask_is_told(
    tmp_path_factory: pytest.TempPathFactory, text: str, width: int, seed: int
) -> None:
    sampler = Recorder(letters(text))
    data = job_data("counted {folder: x}", 100, space="Three", recall={"name": "exact"})
    run, ledger, _ = open_stage(tmp_path_factory.mktemp("s"), data, sampler)
    ran = drive(run, width, seed)
    assert ran == Counter(set(text))
    assert sorted(sampler.told) == list(range(len(text)))
    assert all(
        told.values == {"loss": float(ord(letter))}
        for letter, told in zip(text, _ordered(sampler), strict=True)
    )
    assert len(ledger.catalog.trials(ledger.job_id)) == len(text)


def _ordered(sampler: Recorder) -> list[Observation]:
    return [sampler.told[number] for number in sorted(sampler.told)]


@slow
@given(st.integers(1, 4), st.integers(0, 999), st.floats(0, 0.6), st.floats(0, 0.6), st.booleans())
def test_whatever_is_lost_or_fails_every_trial_ends_once(
    tmp_path_factory: pytest.TempPathFactory, width: int, seed: int, lose: float, fail: float, recall: bool
) -> None:
    sampler = Recorder(letters("abcabcabcabc"))
    extra: dict[str, Any] = {"recall": {"name": "exact"}} if recall else {}
    data = job_data(
        "counted {folder: x}", 12, space="Three", retry={"failed": 1, "lost": 2, "identical": None}, **extra
    )
    run, ledger, _ = open_stage(tmp_path_factory.mktemp("s"), data, sampler)
    drive(run, width, seed, lose, fail)
    rows = ledger.catalog.trials(ledger.job_id)
    assert [row.number for row in rows] == list(range(12))
    assert {row.state for row in rows} <= {"finished", "recalled", "failed", "lost"}
    assert {number: told.outcome for number, told in sampler.told.items()} == {
        row.number: row.state for row in rows
    }
    for row in rows:
        ends = Counter(attempt.state for attempt in ledger.catalog.attempts(row.id))
        assert ends["running"] == 0
        assert ends["failed"] <= 2
        assert ends["lost"] <= 3
        assert (row.state == "recalled") == (row.recalled_from is not None)
    asks = [row.number for kind, row in ledger.catalog.events(rows[0].stage_id) if kind == "ask"]
    tells = [row.number for kind, row in ledger.catalog.events(rows[0].stage_id) if kind == "tell"]
    assert asks == list(range(12))
    assert sorted(tells) == asks


def test_a_failure_budget_stops_the_stage(tmp_path: Path) -> None:
    data = job_data("counted {folder: x}", 12, space="Three", retry={"budget": 2})
    run, ledger, _ = open_stage(tmp_path, data, Recorder(letters("abcabcabcabc")))
    drive(run, 1, 0, fail=1.0)
    assert run.broken
    assert "retry.budget: 2" in run.reason
    assert len(ledger.catalog.trials(ledger.job_id)) == 3


def test_failures_that_are_all_alike_pause_the_stage_and_a_resume_goes_on(tmp_path: Path) -> None:
    data = job_data("counted {folder: x}", 12, space="Three", retry={"identical": 4, "failed": 1})
    run, ledger, _ = open_stage(tmp_path, data, Recorder(letters("abcabcabcabc")))
    drive(run, 1, 0, fail=1.0)
    assert run.paused
    assert not run.broken
    assert "4 attempts in a row failed with the same ValueError (ValueError: no)" in run.reason
    assert "resume" in run.reason
    rows = ledger.catalog.trials(ledger.job_id)
    assert [row.state for row in rows] == ["failed", "failed"]  # two attempts each
    resumed = _resumed(run, Recorder(letters("abcabcabcabc")))
    drive(resumed, 1, 0)
    rows = ledger.catalog.trials(ledger.job_id)
    assert [row.state for row in rows] == ["failed"] * 2 + ["finished"] * 10


def test_failures_with_results_between_them_dont_pause(tmp_path: Path) -> None:
    data = job_data("counted {folder: x}", 40, space="Three", retry={"identical": 5})
    run, ledger, _ = open_stage(tmp_path, data, Recorder(letters("abc" * 14)))
    drive(run, 1, 3, fail=0.4)
    assert not run.paused
    assert len(ledger.catalog.trials(ledger.job_id)) == 40


def test_a_candidate_whose_examination_fails_ends_in_the_transaction_that_records_it(tmp_path: Path) -> None:
    objectives = [{"metric": "loss", "direction": "minimize"}, {"name": f"{PARTS}:Price", "label": "price"}]
    data = job_data("counted {folder: x}", 3, space="Three", job={"objectives": objectives})
    sampler = Recorder(letters("abc"))
    run, ledger, _ = open_stage(tmp_path, data, sampler)
    assert drive(run, 1, 0) == Counter()  # Price asks for x, which these candidates lack
    rows = ledger.catalog.trials(ledger.job_id)
    assert [(row.state, row.attempts) for row in rows] == [("failed", 1)] * 3
    assert {told.outcome for told in sampler.told.values()} == {"failed"}
    for row in rows:
        [attempt] = ledger.catalog.attempts(row.id)
        assert attempt.error is not None
        assert "KeyError" in attempt.error["traceback"]
    assert check(ledger.catalog) == []


@pytest.mark.parametrize(
    ("batch", "recall", "transactions"),
    [
        (1, {}, 2 * 12),  # each trial: proposed and launched; ended
        (4, {}, 2 * 3),  # each launch
        (1, {"recall": {"name": "exact"}}, 12 + 3),  # nine are answered by the transaction that records them
    ],
)
def test_each_change_of_state_is_one_transaction(
    tmp_path: Path, batch: int, recall: dict[str, Any], transactions: int
) -> None:
    data = job_data("counted {folder: x}", 12, space="Three", batch=batch, **recall)
    run, ledger, _ = open_stage(tmp_path, data, Recorder(letters("abc" * 4)))
    commits: list[object] = []
    event.listen(ledger.catalog.engine, "commit", commits.append)
    drive(run, 1, 0)
    assert len(ledger.catalog.trials(ledger.job_id)) == 12
    assert len(commits) == transactions


def _resumed(run: StageRun, sampler: Sampler) -> StageRun:
    run.interrupt("test")
    again = StageRun(
        *(run.stage, run.job, run.stage_id, run.ledger, sampler, run.policy, ThreadPoolExecutor(1)),
        lambda *_, **__: None,
        lambda _: {},
    )
    sampler.start(run.stage.problem)
    again.restore()
    return again


def test_a_sampler_that_is_through_ends_the_stage(tmp_path: Path) -> None:
    run, ledger, _ = open_stage(
        tmp_path, job_data("counted {folder: x}", 12, space="Three"), Recorder(letters("ab"))
    )
    drive(run, 2, 0)
    assert run.exhausted()
    assert not run.broken
    assert len(ledger.catalog.trials(ledger.job_id)) == 2


def test_a_batch_takes_as_many_as_there_are(tmp_path: Path) -> None:
    data = job_data("counted {folder: x}", 7, space="Three", batch=3)
    run, _, _ = open_stage(tmp_path, data, Recorder(letters("abcabcabc")))
    sizes: list[int] = []
    while (asked := run.ask()) is not None:
        sizes.append(len(asked[1]))
    assert sizes == [3, 3, 1]


def test_restoring_queues_what_was_open_and_tells_the_rest(tmp_path: Path) -> None:
    data = job_data("counted {folder: x}", 6, space="Three")
    run, ledger, job = open_stage(tmp_path, data, Recorder(letters("abcabc")))
    first = run.ask()
    second = run.ask()
    assert first is not None
    assert second is not None
    metrics = {"loss": 1.0}
    run.ended(
        first[0],
        [
            {
                "trial_id": first[1][0]["trial_id"],
                "seconds": 0.1,
                "state": "finished",
                "metrics": metrics,
                "values": metrics,
                "artifacts": [],
            }
        ],
    )
    run.interrupt("test")

    again = Recorder(letters("abcabc"))
    restored = StageRun(
        job.stages[0],
        job,
        run.stage_id,
        ledger,
        again,
        None,
        ThreadPoolExecutor(1),
        lambda *_, **__: None,
        lambda _: {},
    )
    again.start(job.stages[0].problem)
    restored.restore()
    assert list(again.told) == [0]
    drive(restored, 1, 0)
    rows = ledger.catalog.trials(ledger.job_id)
    assert [row.state for row in rows] == ["finished"] * 6
    assert [row.attempts for row in rows] == [1, 2, 1, 1, 1, 1]
    assert rows[1].seed == second[1][0]["seed"]


def test_taken_candidates_come_in_order() -> None:
    sampler = Taken(letters("ab"))
    assert [sampler.ask(0)["which"], sampler.ask(1)["which"]] == ["a", "b"]
    with pytest.raises(SpaceExhausted):
        sampler.ask(2)
