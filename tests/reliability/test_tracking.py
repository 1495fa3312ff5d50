"""MLflow's server away, late, slow, or losing half of its answers: the record is complete in the end."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrate.storage.catalog import Catalog
from orchestrate.storage.ledger import RecallPolicy
from orchestrate.storage.lineage import Drainer, server, sync
from tests.reliability.drivers import Home, ended
from tests.reliability.parts import many
from tests.reliability.proxy import Proxy
from tests.reliability.tree import tree
from tests.storage.finished_job import Written, begin, finish, launch, write_all

pytestmark = pytest.mark.timeout(600)


@dataclass
class Tracking:
    """A running MLflow server, its store, and what a job looks like there when all goes well."""

    url: str
    store: str
    wanted: dict[str, Any]


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracking]:
    folder = tmp_path_factory.mktemp("mlflow")
    store = f"sqlite:///{folder / 'mlflow.db'}"
    with server.start(store, artifacts=folder / "artifacts") as running, _written(folder) as written:
        assert sync(written.catalog, running.url).error == ""
        yield Tracking(running.url, store, tree(store, written.job_id, running.url))


class _written:  # noqa: N801 - reads as a function
    """A finished job in a catalog of its own, everything still to be told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Written:
        self.catalog = Catalog.open(str(self.folder / "catalog.db"))
        return write_all(self.catalog, self.folder)

    def __exit__(self, *_: object) -> None:
        self.catalog.close()


def test_a_server_that_comes_late_gets_everything_once(tracking: Tracking, tmp_path: Path) -> None:
    away = "http://127.0.0.1:9"  # nothing listens there
    with Proxy(away) as proxy, _written(tmp_path) as written:
        assert sync(written.catalog, proxy.url, tries=2, pause=lambda _: None).remaining > 0
        drainer = Drainer(written.catalog.url, written.job_id, proxy.url)
        drainer.start()
        until = time.monotonic() + 60
        while not proxy.requests or len(proxy.requests) < 4:
            assert time.monotonic() < until, "the delivery doesn't try"
            time.sleep(0.1)
        assert written.catalog.backlog(written.job_id) > 0
        proxy.upstream = proxy.upstream._replace(netloc=tracking.url.removeprefix("http://"))
        drainer.finish(patience=120)
        assert sync(written.catalog, proxy.url).error == ""
        assert written.catalog.backlog() == 0
        assert tree(tracking.store, written.job_id, tracking.url) == tracking.wanted


def test_a_server_that_loses_half_of_its_answers_gets_nothing_twice(
    tracking: Tracking, tmp_path: Path, chance: random.Random
) -> None:
    fates = ["ok", "ok", "refused", "lost"]
    with (
        Proxy(tracking.url, fate=lambda number: chance.choice(fates) if number % 25 else "ok") as proxy,
        _written(tmp_path) as written,
    ):
        before = written.catalog.backlog()
        for _ in range(400):
            result = sync(written.catalog, proxy.url, tries=50, pause=lambda _: None)
            if not result.remaining:
                break
        assert result.remaining == 0, (result.error, before)
        assert tree(tracking.store, written.job_id, tracking.url) == tracking.wanted


@pytest.mark.ray
def test_a_job_doesnt_wait_for_a_slow_server(tracking: Tracking, home: Home) -> None:
    with Proxy(tracking.url, delay=1.0) as proxy:
        process = home.submit(many(20), tracking=proxy.url, lineage=True)
        state, backlog = "created", 0
        until = time.monotonic() + 120
        while state != "finished":
            assert time.monotonic() < until, (state, home.said)
            time.sleep(0.2)
            if home.folder.joinpath("catalog.db").exists():
                with home.open() as catalog:
                    for job in catalog.jobs():
                        state, backlog = job.state, catalog.backlog(job.id)
        assert backlog > 10  # the job was over long before its record
        proxy.delay = 0.0
        ended(process, 120)
        with home.open() as catalog:
            assert sync(catalog, proxy.url).error == ""
            found = tree(tracking.store, catalog.jobs()[0].id, tracking.url)
    assert sum(path.count("/") == 2 for path in found) == 20


def _requests(tracking: Tracking, folder: Path, launched: int, recalled: int) -> int:
    """How many requests a job's record takes, trials told as they start and as they end."""
    policy = RecallPolicy("context", "catalog", frozenset({"accuracy"}))
    folder.mkdir()
    with Proxy(tracking.url) as proxy, Catalog.open(str(folder / "catalog.db")) as catalog:
        written = begin(catalog, folder)
        stage = written.stage("search")
        written.ledger.start_stage(stage, "context")
        for number in range(launched):
            trial = launch(written, "search", number, {"width": 16 + number, "activation": "relu"}, policy)
            assert sync(catalog, proxy.url).error == ""
            finish(written, trial, 0.5 + number / 1000)
            assert sync(catalog, proxy.url).error == ""
        for number in range(launched, launched + recalled):
            launch(written, "search", number, {"width": 16, "activation": "relu"}, policy)
        written.ledger.end_stage(stage, "finished")
        assert sync(catalog, proxy.url).error == ""
        return sum("/runs/search" not in path and "/experiments/" not in path for _, path in proxy.requests)


def test_a_launched_trial_takes_three_requests_and_a_recalled_one_none(
    tracking: Tracking, tmp_path: Path
) -> None:
    few = _requests(tracking, tmp_path / "few", 2, 0)
    assert _requests(tracking, tmp_path / "more", 6, 0) - few == 3 * 4
    assert _requests(tracking, tmp_path / "recalled", 2, 40) == few
