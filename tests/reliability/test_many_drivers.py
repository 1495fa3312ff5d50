"""Several jobs at once on one Ray and in one catalog: each as if it were alone."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrate.storage.check import check
from orchestrate.storage.models import TERMINAL_TRIAL_STATES
from tests.reliability.conftest import MakeHome
from tests.reliability.drivers import Home, ended, kill, wait_until
from tests.reliability.parts import many

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

JOBS = 3


def result(home: Home, name: str) -> list[Any]:
    with home.open() as catalog:
        rows = catalog.trials(catalog.job(name).id)
        return [(row.number, row.candidate, row.state, row.values, row.seed) for row in rows]


def job(number: int, **search: Any) -> dict[str, Any]:
    return {**many(12, sleep=0.05, **search), "name": f"job-{number}", "seed": number}


def test_jobs_side_by_side_are_isolated(make_home: MakeHome) -> None:
    shared = make_home()
    homes = [Home(shared.folder / str(number), shared.address, shared.url) for number in range(JOBS)]
    shared.open().close()
    drivers = [home.submit(job(number)) for number, home in enumerate(homes)]
    wait_until(lambda: _over(shared, "job-1") > 2, 120)
    kill(drivers[1].pid)  # the others don't notice
    assert [ended(drivers[number], 180) for number in (0, 2)] == [0, 0], homes[0].said
    with shared.open() as catalog:
        dead = catalog.job("job-1")
        assert not catalog.owned(dead.id)
        assert catalog.job("job-0").state == catalog.job("job-2").state == "finished"
    assert ended(homes[1].resume(job="job-1"), 180) == 0, homes[1].said
    alone = make_home()
    assert ended(alone.submit(job(1)), 180) == 0, alone.said
    assert result(shared, "job-1") == result(alone, "job-1")
    with shared.open() as catalog:
        assert len(catalog.trials()) == 12 * JOBS
        assert check(catalog) == []


def _over(home: Home, name: str) -> int:
    with home.open() as catalog:
        rows = [row for row in catalog.jobs() if row.name == name]
        return len(catalog.trials(rows[0].id, states=TERMINAL_TRIAL_STATES)) if rows else 0


def test_jobs_that_recall_from_each_other_run_each_candidate_once(make_home: MakeHome) -> None:
    shared = make_home()
    homes = [Home(shared.folder / str(number), shared.address, shared.url) for number in range(JOBS)]
    shared.open().close()
    drivers = [
        home.submit(job(number, recall={"name": "exact"}, sampler={"name": "random"}))
        for number, home in enumerate(homes)
    ]
    assert [ended(driver, 180) for driver in drivers] == [0] * JOBS, homes[0].said
    with shared.open() as catalog:
        rows = catalog.trials()
        assert len(rows) == 12 * JOBS
        ran = [tuple(sorted(row.candidate.items())) for row in rows if row.state == "finished"]
        assert len(set(ran)) == len(ran) <= 12
        by_id = {row.id: row for row in rows}
        for row in rows:
            if row.state == "recalled":
                source = by_id[row.recalled_from or 0]
                assert (source.state, source.candidate, source.values) == (
                    "finished",
                    row.candidate,
                    row.values,
                )
        assert check(catalog) == []
