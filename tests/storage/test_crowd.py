"""Several processes at once: nothing is lost, nothing happens twice."""

from __future__ import annotations

import subprocess

import pytest
from sqlalchemy import func, select, update

from orchestrate.storage.catalog import Catalog
from orchestrate.storage.check import check
from orchestrate.storage.ledger import Launch, Recall, Wait
from orchestrate.storage.models import ClaimRow, EvaluationRow, JobRow, OutboxRow
from tests.storage import crowd
from tests.storage.conftest import POLICY, draft, proposal, result, started

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


@pytest.mark.parametrize("evaluations", [1, 3])
def test_many_drivers_train_each_class_so_often_and_never_wait_for_each_other(
    catalog: Catalog, evaluations: int
) -> None:
    crowd.together(PROCESSES, crowd.repeat, catalog.url, TIMES, 20, evaluations)
    assert [job.state for job in catalog.jobs()] == ["finished"] * PROCESSES
    trials = catalog.trials()
    assert len(trials) == PROCESSES * TIMES
    assert {trial.state for trial in trials} == {"finished", "recalled"}
    assert sum(trial.state == "finished" for trial in trials) == 20 * evaluations
    assert len({trial.class_id for trial in trials}) == 20
    assert check(catalog) == []


def test_a_killed_leader_of_this_machine_is_taken_over_at_once(catalog: Catalog) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        crowd.together(1, crowd.lead_and_die, catalog.url, "this process")
    one, two = [started(catalog, name).ask(proposal(0, "f"))[0] for name in ("one", "two")]
    assert isinstance(one, Launch)
    assert isinstance(two, Wait)
    assert two.holder_id == one.trial_id


def test_a_killed_leader_of_another_machine_is_taken_over_once(catalog: Catalog) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        crowd.together(1, crowd.lead_and_die, catalog.url, "somewhere else")
    drivers = [started(catalog, name) for name in ("one", "two")]
    first = [driver.ask(proposal(0, "f"))[0] for driver in drivers]
    assert [type(one) for one in first] == [Wait, Wait]
    with catalog.engine.begin() as connection:  # time passes: the dead driver's lease runs out
        connection.execute(update(JobRow).where(JobRow.name == "dead").values(lease_expires_at=1.0))
    took, waits = [
        driver.ledger.reconsider([one.trial_id], POLICY)[0]
        for driver, one in zip(drivers, first, strict=True)
    ]
    assert isinstance(took, Launch)
    assert isinstance(waits, Wait)
    assert waits.holder_id == took.trial_id
    drivers[0].ledger.finish([result(took.trial_id, accuracy=0.7)])
    [answer] = drivers[1].ledger.reconsider([waits.trial_id], POLICY)
    assert isinstance(answer, Recall)
    assert answer.values == {"accuracy": 0.7}
