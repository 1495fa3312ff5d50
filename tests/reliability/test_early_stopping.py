"""Trials that were stopped early stay so, and those that were not go on, whoever drives the job."""

from __future__ import annotations

import random
import time

import pytest

from tests.reliability.conftest import FULL
from tests.reliability.drivers import Home, ended, kill, snapshot, wait_until
from tests.reliability.parts import HERE, many

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

TRIALS, STEPS = 10, 6
KILLS = 6 if FULL else 2


@pytest.mark.parametrize("rule", ["asha", "median"])
def test_a_resumed_job_stops_the_same_trials(home: Home, chance: random.Random, rule: str) -> None:
    early = {
        "asha": {"max_steps": STEPS, "reduction_factor": 2},
        "median": {"grace_steps": 2, "min_trials": 2},
    }
    data = many(
        TRIALS,
        program={"name": f"{HERE}:steps", "count": STEPS, "sleep": 0.03},
        early_stopping={"name": rule, **early[rule]},
    )
    whole = Home(home.folder / "whole", home.address)
    assert ended(whole.submit(data), 180) == 0, whole.said
    wanted = snapshot(whole)
    assert {"pruned", "finished"} <= {trial["state"] for trial in wanted["trials"]}

    def reports() -> int:
        if not (home.folder / "catalog.db").exists():
            return 0
        with home.open() as catalog:
            return sum(
                len(catalog.reports(row.id)) for job in catalog.jobs()[:1] for row in catalog.trials(job.id)
            )

    driver = home.submit(data)
    for _ in range(KILLS):
        target = reports() + chance.randrange(2, 9)
        wait_until(lambda target=target, driver=driver: reports() >= target or driver.exitcode is not None)
        time.sleep(chance.random() * 0.05)
        if driver.exitcode is None:
            kill(driver.pid)
            driver.join()
            driver = home.resume()
    assert ended(driver, 180) == 0, home.said
    assert snapshot(home) == wanted
