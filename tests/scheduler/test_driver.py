"""Whole jobs on a real Ray: what ends in the catalog, whatever happens on the way."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from orchestrate.core import JobEvent, SpecError, StageEvent, TrialEvent, hookimpl
from orchestrate.core.errors import JobBusyError
from orchestrate.core.registry import Registry
from orchestrate.scheduler.driver import resume
from orchestrate.scheduler.history import sample
from orchestrate.scheduler.settings import Settings
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.lineage import sync
from tests.reliability.tree import tree
from tests.scheduler.conftest import PARTS, Submit, job_data

pytestmark = pytest.mark.ray


def states(rows: Any) -> Counter[str]:
    return Counter(row.state for row in rows)


def test_every_trial_is_recorded_with_its_steps_values_and_times(run_job: Submit, catalog: Catalog) -> None:
    outcome, rows = run_job(job_data("bowl", 5))
    assert outcome.state == "finished"
    assert [row.number for row in rows] == [0, 1, 2, 3, 4]
    assert states(rows) == {"finished": 5}
    for row in rows:
        x, y = row.candidate["x"], row.candidate["y"]
        assert row.values == {"loss": pytest.approx((x - 0.3) ** 2 + (y - 0.1) ** 2)}
        assert [report.step for report in catalog.reports(row.id)] == [1, 2, 3]
        assert {"propose", "fingerprint", "launch", "run"} <= set(row.timings)
        assert [attempt.state for attempt in catalog.attempts(row.id)] == ["finished"]
    assert catalog.job(outcome.job_id).state == "finished"
    assert [stage.state for stage in catalog.stages(outcome.job_id)] == ["finished"]


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2", "evolution"])
def test_the_same_seed_gives_the_same_candidates_and_metrics(run_job: Submit, sampler: str) -> None:
    data = job_data("bowl", 12, sampler={"name": sampler}, concurrency=1)
    first, second = ([(row.candidate, row.metrics) for row in run_job(data)[1]] for _ in range(2))
    assert first == second
    other = run_job({**data, "seed": 6})[1]
    assert [row.candidate for row in other] != [candidate for candidate, _ in first]


def test_a_troubled_trial_is_recorded_with_its_cause_and_takes_nothing_down(
    run_job: Submit, catalog: Catalog, tmp_path: Path
) -> None:
    retry = {"failed": 1, "lost": 1}
    outcome, rows = run_job(job_data(f"troubled {{folder: {tmp_path}}}", 8, retry=retry))
    assert outcome.state == "finished"
    assert [row.state for row in rows] == [
        "finished", "failed", "failed", "finished", "lost", "failed", "finished", "finished",
    ]  # fmt: skip
    causes = [[attempt.state for attempt in catalog.attempts(row.id)] for row in rows]
    assert causes[1] == ["failed", "failed"]
    assert causes[3] == ["lost", "finished"]
    assert causes[4] == ["lost", "lost"]
    assert causes[6] == ["failed", "finished"]
    assert "ValueError: no luck" in rows[1].reason
    assert "nan" in rows[2].reason
    assert "died" in rows[4].reason
    assert "'loss'" in rows[5].reason
    assert "los" in rows[5].reason
    error = catalog.attempts(rows[1].id)[0].error
    assert error is not None
    assert "parts.py" in error["traceback"]


def test_a_failure_budget_fails_the_job(run_job: Submit, tmp_path: Path) -> None:
    data = job_data(f"troubled {{folder: {tmp_path}}}", 8, retry={"budget": 0}, concurrency=1)
    outcome, rows = run_job(data)
    assert outcome.state == "failed"
    assert "budget" in outcome.reason
    assert states(rows)["finished"] == 1


def test_a_stage_without_a_single_result_fails_the_job_with_the_cause(run_job: Submit) -> None:
    outcome, _ = run_job(job_data("reader {maker: nowhere}", 2))
    assert outcome.state == "failed"
    assert "nowhere" in outcome.reason


@pytest.mark.parametrize("concurrency", [1, 3])
def test_equal_candidates_run_once(run_job: Submit, tmp_path: Path, concurrency: int) -> None:
    data = job_data(
        f"counted {{folder: {tmp_path}, sleep: 0.2}}",
        12,
        space="Three",
        recall={"name": "exact"},
        concurrency=concurrency,
    )
    outcome, rows = run_job(data)
    assert outcome.state == "finished"
    assert states(rows) == {"finished": 3, "recalled": 9}
    ran = [path.name[0] for path in tmp_path.iterdir() if path.name[:2] in ("a-", "b-", "c-")]
    assert sorted(ran) == ["a", "a", "b", "c"]  # the best once more at the end, without recall
    assert [row.confirmed for row in rows if row.confirmed] == [{"loss": float(ord("a"))}]
    by_id = {row.id: row for row in rows}
    for row in rows:
        if row.state == "recalled":
            source = by_id[row.recalled_from]
            assert source.state == "finished"
            assert source.candidate == row.candidate
            assert source.values == row.values


def test_recall_reaches_other_jobs_unless_told_not_to(run_job: Submit, tmp_path: Path) -> None:
    program = f"counted {{folder: {tmp_path}}}"
    run_job(job_data(program, 8, space="Three", recall={"name": "exact"}))
    _, rows = run_job(job_data(program, 8, space="Three", recall={"name": "exact"}, job={"seed": 9}))
    assert states(rows) == {"recalled": 8}
    _, rows = run_job(job_data(program, 8, space="Three", recall={"name": "exact", "scope": "job"}))
    assert states(rows)["finished"] == 3
    _, rows = run_job(job_data(program + " ", 4, space="Three"))
    assert states(rows) == {"finished": 4}


def test_an_infeasible_candidate_is_never_launched(run_job: Submit, catalog: Catalog) -> None:
    objectives = [
        {"metric": "loss", "direction": "minimize"},
        {"name": f"{PARTS}:Price", "label": "price", "max": 0.5},
    ]
    _, rows = run_job(job_data("bowl", 6, job={"objectives": objectives}))
    infeasible = [row for row in rows if row.state == "infeasible"]
    assert infeasible
    assert states(rows)["finished"] == 6  # they don't count as trials
    for row in rows:
        assert (row.candidate["x"] > 0.5) == (row.state == "infeasible")
        assert row.values["price"] == row.candidate["x"]
    for row in infeasible:
        assert catalog.attempts(row.id) == []
        assert "breaks max 0.5" in row.reason


@pytest.mark.parametrize("name", ["asha", "median"])
def test_early_stopping_prunes_the_bad_and_keeps_the_best(
    run_job: Submit, catalog: Catalog, name: str
) -> None:
    early = {"name": name, "max_steps": 4, "grace_steps": 1}
    outcome, rows = run_job(job_data("bowl {sleep: 0.03, steps: 4}", 20, early_stopping=early))
    assert outcome.state == "finished"
    found = states(rows)
    assert set(found) == {"finished", "pruned"}
    assert found["pruned"] >= 3
    distance: dict[str, list[float]] = {state: [] for state in found}
    for row in rows:
        distance[row.state].append((row.candidate["x"] - 0.3) ** 2 + (row.candidate["y"] - 0.1) ** 2)
    assert fmean(distance["finished"]) < fmean(distance["pruned"])
    assert all(len(catalog.reports(row.id)) == 4 for row in rows if row.state == "finished")
    assert all("stopped early at step" in row.reason for row in rows if row.state == "pruned")


def test_a_batch_program_gets_many_candidates_at_once(run_job: Submit) -> None:
    _, rows = run_job(job_data("Batched", 20))
    assert states(rows) == {"finished": 19, "failed": 1}
    assert rows[2].reason == "ValueError: one of the batch fails"
    assert rows[0].metrics["together"] == 8
    assert rows[19].metrics["together"] == 4


def test_candidates_of_a_batch_are_rows_of_a_table_and_only_the_chosen_have_runs(
    run_job: Submit, catalog: Catalog, tmp_path: Path
) -> None:
    outcome, rows = run_job(job_data("Batched", 20))
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert sync(catalog, store, outcome.job_id).error == ""
    best = min((row for row in rows if row.values), key=lambda row: row.values["loss"])
    assert set(tree(store, outcome.job_id)) == {"job", "job/search", f"job/search/trial {best.number}"}


def test_stages_hand_artifacts_and_candidates_on(run_job: Submit, catalog: Catalog) -> None:
    data = job_data("reader {maker: first}", 4)
    data["stages"] = [
        {"name": "first", "program": {"name": f"{PARTS}:Maker", "text": "hello"}},
        *data["stages"],
        {"name": "last", "program": {"name": f"{PARTS}:bowl"}, "take": {"from": "search", "best": 2}},
    ]
    outcome, rows = run_job(data)
    assert outcome.state == "finished"
    stages = catalog.stages(outcome.job_id)
    by_stage = [[row for row in rows if row.stage_id == stage.id] for stage in stages]
    assert [len(found) for found in by_stage] == [1, 4, 2]
    assert {row.metrics["length"] for row in by_stage[1]} == {5.0}
    best = sorted(by_stage[1], key=lambda row: row.values["loss"])[:2]
    assert [row.candidate for row in by_stage[2]] == [row.candidate for row in best]


def test_what_a_sampler_trained_is_kept_for_questions(run_job: Submit, catalog: Catalog) -> None:
    outcome, _ = run_job(job_data("bowl", 4, sampler={"name": f"{PARTS}:Keeps"}))
    row = catalog.job(outcome.job_id)
    _, [answer] = sample(catalog, row, {"loss": 1.0}, 1, Registry.discover())
    assert answer.predicted == {"loaded": 4.0}


def test_the_search_never_sees_the_test_split_and_the_chosen_are_scored_once(run_job: Submit) -> None:
    outcome, rows = run_job(job_data("Peeker", 5, job={"task": {"name": "digits"}}))
    assert outcome.state == "finished"
    assert states(rows) == {"finished": 5}
    best = min(rows, key=lambda row: row.values["loss"])
    assert [row.number for row in rows if row.test] == [best.number]
    assert best.test is not None
    assert 300 < best.test["images"] < 400


def test_a_time_budget_ends_a_stage_in_peace(run_job: Submit) -> None:
    data = job_data("bowl {sleep: 0.1}", 1000, time_budget="3s")
    begun = time.monotonic()
    outcome, rows = run_job(data)
    assert outcome.state == "finished"
    assert 0 < len(rows) < 100
    assert set(states(rows)) == {"finished"}
    assert time.monotonic() - begun < 20


def _interrupt_when(condition: Any) -> threading.Thread:
    def watch() -> None:
        while not condition():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_ctrl_c_leaves_a_job_that_resumes_to_the_same_end(
    run_job: Submit, settings: Settings, catalog: Catalog, tmp_path: Path
) -> None:
    steps = tmp_path / "steps"
    steps.mkdir()
    data = job_data(f"resumable {{folder: {steps}}}", 4, concurrency=1, sampler={"name": "tpe"})
    _interrupt_when(lambda: any(steps.glob("trial-2-step-3-*")))
    outcome, rows = run_job(data)
    assert outcome.state == "interrupted"
    assert states(rows) == {"finished": 2, "queued": 1}
    assert catalog.job(outcome.job_id).state == "interrupted"

    again = resume(outcome.job_id, settings)
    assert again.state == "finished"
    rows = catalog.trials(outcome.job_id)
    assert states(rows) == {"finished": 4}
    assert [attempt.state for attempt in catalog.attempts(rows[2].id)] == ["interrupted", "finished"]
    run = Counter(path.name.rsplit("-", 1)[0] for path in steps.iterdir())
    assert sum(run.values()) <= 4 * 6 + 1  # the step under way is the only one that may run twice

    whole = tmp_path / "whole"
    whole.mkdir()
    _, uninterrupted = run_job(
        job_data(f"resumable {{folder: {whole}}}", 4, concurrency=1, sampler={"name": "tpe"})
    )
    assert [(row.candidate, row.metrics) for row in rows] == [
        (row.candidate, row.metrics) for row in uninterrupted
    ]
    with pytest.raises(JobBusyError, match="finished"):
        resume(outcome.job_id, settings)


def test_cancelling_ends_everything(run_job: Submit, catalog: Catalog, tmp_path: Path) -> None:
    class Canceller:
        @hookimpl
        def trial_started(self, event: TrialEvent) -> None:
            if event.number == 1:
                catalog.request_cancel(event.job)

    begun = time.monotonic()
    outcome, rows = run_job(job_data("bowl {sleep: 60}", 4), Canceller())
    assert outcome.state == "cancelled"
    assert time.monotonic() - begun < 30
    assert set(states(rows)) == {"cancelled"}
    assert catalog.job(outcome.job_id).state == "cancelled"


def test_listeners_hear_everything_once_and_may_fail(run_job: Submit) -> None:
    heard: list[str] = []

    class Listener:
        @hookimpl
        def job_started(self, event: JobEvent) -> None:
            heard.append("job_started")

        @hookimpl
        def stage_started(self, event: StageEvent) -> None:
            heard.append(f"stage_started {event.trials}")

        @hookimpl
        def trial_finished(self, event: TrialEvent) -> None:
            heard.append("trial_finished")
            raise RuntimeError("a listener's own trouble")

        @hookimpl
        def job_finished(self, event: JobEvent) -> None:
            heard.append(f"job_finished {event.state}")

    run_job(job_data("bowl", 2), Listener())
    assert heard == [
        "job_started",
        "stage_started 2",
        "trial_finished",
        "trial_finished",
        "job_finished finished",
    ]


def test_an_impossible_request_is_refused_before_anything_is_made(
    run_job: Submit, settings: Settings
) -> None:
    with pytest.raises(SpecError, match=r"'search': a trial asks for 4000 cpu.*Lower"):
        run_job(job_data("bowl", 2, resources={"cpu": 4000}))
    assert Catalog.open(settings.catalog_url).jobs() == []


def test_two_workers_give_the_single_process_gradient(run_job: Submit) -> None:
    _, alone = run_job(job_data("gradients", 1))
    workers = {"count": 2, "strategy": {"name": "all-reduce"}}
    outcome, together = run_job(job_data("gradients", 2, workers=workers, concurrency=1))
    assert outcome.state == "finished", outcome.reason
    for row in together:
        assert row.metrics == pytest.approx(alone[0].metrics, abs=1e-10, rel=1e-10)


def test_what_ranks_owe_each_other_outlives_their_death(
    run_job: Submit, settings: Settings, tmp_path: Path
) -> None:
    compression = {"name": "l-greco", "family": "topk", "density": 0.05, "minimum": 64}
    schedule = {"start": 2, "period": 4, "window": 2}
    workers = {"count": 2, "strategy": {**compression, **schedule}}
    folder = f"folder: {tmp_path}"
    (whole,) = run_job(job_data(f"owing {{{folder}}}", 1, workers=workers))[1]
    outcome, (killed,) = run_job(job_data(f"owing {{{folder}, kill_at: 9}}", 1, workers=workers))
    assert outcome.state == "finished", outcome.reason
    assert killed.metrics == whole.metrics
    assert whole.metrics["compression/ratio_now"] > 5
    kinds = {file.kind for file in Catalog.open(settings.catalog_url).artifacts_of(killed.id)}
    assert kinds == {"compression", "compression-picture"}
