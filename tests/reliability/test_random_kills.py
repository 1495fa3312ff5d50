"""Kills at random times: of the driver, of workers, of a node that isn't the head."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest

from orchestrate.storage.catalog import Catalog
from orchestrate.storage.check import check
from orchestrate.storage.models import TERMINAL_TRIAL_STATES
from tests.reliability.conftest import FULL
from tests.reliability.drivers import Home, ended, kill, snapshot
from tests.reliability.parts import many

pytestmark = pytest.mark.timeout(7200 if FULL else 600)

TRIALS = 200 if FULL else 60
KILLS = 20 if FULL else 3  # a job
JOBS = 3 if FULL else 1


def worker_of(catalog: Catalog) -> int | None:
    """The process that ran the last trial, and most likely runs the next."""
    rows = catalog.trials(catalog.jobs()[0].id, states=("finished",))
    for row in reversed(rows):
        node = catalog.attempts(row.id)[-1].node
        if node:
            return int(node.rsplit(":", 1)[1])
    return None


def done(home: Home) -> int:
    if not (home.folder / "catalog.db").exists():
        return 0
    with home.open() as catalog:
        jobs = catalog.jobs()
        return len(catalog.trials(jobs[0].id, states=TERMINAL_TRIAL_STATES)) if jobs else 0


@pytest.mark.ray
@pytest.mark.parametrize("sampler", ["evolution", "cma-es"] if FULL else ["evolution"])
def test_two_hundred_trials_and_many_deaths(home: Home, chance: random.Random, sampler: str) -> None:
    data = many(TRIALS, sleep=0.02, sampler={"name": sampler}, retry={"lost": 50})
    whole = Home(home.folder / "whole", home.address)
    assert ended(whole.submit(data), 600) == 0, whole.said
    wanted = snapshot(whole)
    for job in range(JOBS):
        one = Home(home.folder / f"job-{job}", home.address)
        driver = one.submit(data)
        deaths: Counter[str] = Counter()
        while sum(deaths.values()) < KILLS:
            target = chance.randrange(1, TRIALS - 2)
            _wait(one, driver, done(one) + max(1, target * 2 // KILLS))
            time.sleep(chance.random() * 0.05)
            if driver.exitcode is not None:
                break
            victim = chance.choice(["driver", "driver", "worker"])
            if victim == "worker":
                with one.open() as catalog:
                    kill(worker_of(catalog))
            else:
                kill(driver.pid)
                driver.join()
                driver = one.resume()
            deaths[victim] += 1
        assert ended(driver, 600) == 0, one.said
        print(f"job {job}: {dict(deaths)}")
        assert sum(deaths.values())
        assert snapshot(one) == wanted
        with one.open() as catalog:
            rows = catalog.trials(catalog.jobs()[0].id)
            assert [row.number for row in rows] == list(range(TRIALS))
            assert {row.state for row in rows} == {"finished"}
            assert check(catalog) == []


def _wait(home: Home, driver: object, trials: int) -> None:
    until = time.monotonic() + 120
    while done(home) < trials and getattr(driver, "exitcode") is None:  # noqa: B009 - any process
        assert time.monotonic() < until, (done(home), trials, home.said)
        time.sleep(0.02)


@pytest.mark.cluster
def test_a_node_that_dies_takes_no_trial_with_it(tmp_path, chance: random.Random) -> None:
    import ray
    from ray.cluster_utils import Cluster

    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        home = Home(tmp_path / "home", cluster.address)
        data = many(40, sleep=0.3, concurrency=2, retry={"lost": 50})
        driver = home.submit(data)
        for _ in range(4 if FULL else 1):
            _wait(home, driver, done(home) + chance.randrange(3, 8))
            victim = nodes.pop(chance.randrange(len(nodes)))
            cluster.remove_node(victim, allow_graceful=False)
            nodes.append(cluster.add_node(num_cpus=1))
        assert ended(driver, 300) == 0, home.said
        with home.open() as catalog:
            rows = catalog.trials(catalog.jobs()[0].id)
            assert [row.number for row in rows] == list(range(40))
            assert {row.state for row in rows} == {"finished"}
            ends = Counter(a.state for row in rows for a in catalog.attempts(row.id))
            print(ends)
            assert ends["finished"] == 40
            assert check(catalog) == []
    finally:
        cluster.shutdown()
