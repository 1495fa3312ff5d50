"""`kill -9` behind each commit and each word to others: a resumed job ends as if nothing had been."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrate.storage.lineage import sync
from tests.reliability.conftest import FULL, MakeHome
from tests.reliability.drivers import KILLED, Home, ended, snapshot
from tests.reliability.parts import everything
from tests.reliability.tree import tree

pytestmark = [pytest.mark.ray, pytest.mark.timeout(7200 if FULL else 600)]

AT_ONCE = 3
DRIVER, WORKER = ("commit", "launch", "sent", "answer", "ray", "report"), ("checkpoint", "artifact")

Point = tuple[str, int]


def points(listed: Path) -> list[Point]:
    """Every point that a run passed, workers' included, with its number in its process."""
    passed = Counter(listed.read_text(encoding="utf-8").split())
    assert {*DRIVER, *WORKER} <= set(passed), "the job doesn't come by every kind of point"
    return [(name, n) for name in (*DRIVER, *WORKER) for n in range(1, passed[name] + 1)]


def subset(every: list[Point], chance: random.Random, count: int) -> list[Point]:
    """Some, of every kind one while there is room."""
    kinds = list(dict.fromkeys(name for name, _ in every))
    chance.shuffle(kinds)
    chosen = [chance.choice([point for point in every if point[0] == kind]) for kind in kinds[:count]]
    rest = [point for point in every if point not in chosen]
    return chosen + chance.sample(rest, max(0, count - len(chosen)))


def die_and_resume(make_home: MakeHome, point: Point) -> Home:
    name, number = point
    home = make_home()
    died = ended(home.submit(everything(), home.crash_at(name, number)), 180)
    if name in DRIVER and died == 0 and number > 1:
        # Which trials share a launch is a matter of time, so this run had fewer points than the first one.
        return die_and_resume(make_home, (name, number - 1))
    if name in DRIVER:
        assert died == KILLED, (point, died, home.said)
        with home.open() as catalog:
            states = [job.state for job in catalog.jobs()]
        if states != ["finished"]:  # else it died behind its last word
            again = home.resume() if states else home.submit(everything())
            assert ended(again, 180) == 0, (point, home.said)
    else:  # a worker's death is the driver's business
        assert died == 0, (point, home.said)
        with home.open() as catalog:
            ends = Counter(
                attempt.state
                for row in catalog.trials(catalog.jobs()[0].id)
                for attempt in catalog.attempts(row.id)
            )
        assert ends["lost"] == 1, point
    return home


def test_a_job_ends_the_same_wherever_its_processes_were_killed(
    make_home: MakeHome, chance: random.Random, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    whole = make_home()
    listed = tmp_path / "points"
    assert ended(whole.submit(everything(), f"list:0:{listed}"), 180) == 0, whole.said
    wanted = snapshot(whole)
    assert {trial["state"] for trial in wanted["trials"]} == {"finished", "recalled", "infeasible", "failed"}
    every = points(listed)
    short = 3 if "postgresql" in request.node.name else 8
    chosen = every if FULL else subset(every, chance, short)
    print(f"{len(chosen)} of {len(every)} points: {chosen}")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        homes = list(pool.map(die_and_resume, [make_home] * len(chosen), chosen))
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mirrored = None
    for home, point in zip([whole, *homes], [("none", 0), *chosen], strict=True):
        assert snapshot(home) == wanted, point
        with home.open() as catalog:
            assert sync(catalog, store).error == ""
            found = tree(store, catalog.jobs()[0].id)
        mirrored = mirrored or found
        assert found == mirrored, point
