"""Several processes at once: nothing is lost, nothing happens twice."""

from __future__ import annotations

from sqlalchemy import func, select

from orchestrate.storage.catalog import Catalog
from orchestrate.storage.check import check
from orchestrate.storage.models import ClaimRow, EvaluationRow, OutboxRow
from tests.storage import crowd
from tests.storage.conftest import draft

PROCESSES, TIMES = 8, 50


def test_many_processes_may_be_the_first(url: str) -> None:
    crowd.together(PROCESSES, crowd.open_and_read, url)


def test_equal_candidates_of_many_jobs_are_run_once(catalog: Catalog) -> None:
    crowd.together(PROCESSES, crowd.drive, catalog.url, TIMES)
    assert [job.state for job in catalog.jobs()] == ["finished"] * PROCESSES
    trials = catalog.trials()
    assert len(trials) == PROCESSES * TIMES
    ran = [trial for trial in trials if trial.state == "finished"]
    assert sorted(trial.candidate["x"] for trial in ran) == list(range(TIMES))
    by_id = {trial.id: trial for trial in ran}
    for trial in trials:
        if trial.state != "finished":
            assert trial.state == "recalled"
            source = by_id[trial.recalled_from]
            assert (trial.candidate, trial.values) == (source.candidate, source.values)
    with catalog.engine.connect() as connection:
        counts = [
            connection.scalar(select(func.count()).select_from(row)) for row in (EvaluationRow, ClaimRow)
        ]
    assert counts == [TIMES, 0]
    assert check(catalog) == []


def test_no_update_of_one_row_is_lost(catalog: Catalog) -> None:
    ledger = catalog.create_job(draft(), "all of them", 60)
    crowd.together(PROCESSES, crowd.provenance, catalog.url, ledger.job_id, ledger.token, TIMES)
    assert len(catalog.job(ledger.job_id).provenance) == 1 + PROCESSES * TIMES


def test_a_job_is_taken_by_one(catalog: Catalog) -> None:
    ledger = catalog.create_job(draft(), "gone", 0.0)
    crowd.together(PROCESSES, crowd.take, catalog.url, ledger.job_id)
    assert catalog.job(ledger.job_id).lease_token == 2
    with catalog.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(OutboxRow)) == 1
