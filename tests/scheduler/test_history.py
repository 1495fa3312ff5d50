"""The log and the sampler: the order in which it heard, and what happens when it changed its mind."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from orchestrate.core import Candidate, Sampler, SpaceExhausted, resolve
from orchestrate.core.registry import Registry
from orchestrate.core.sampler import Observation
from orchestrate.scheduler.history import restore_sampler
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.ledger import Ledger
from tests.scheduler.conftest import job_data
from tests.storage.conftest import Driver, draft, proposal, result

NAMES = ["nsga2", "nsga3", "cma-es", "qmc", "gp", "tpe", "random", "evolution"]
OPTIONS: dict[str, dict[str, Any]] = {"nsga2": {"population_size": 6}, "nsga3": {"population_size": 6}}


class Row:
    """A logged trial."""

    def __init__(self, number: int, candidate: Candidate, loss: float) -> None:
        self.number, self.candidate, self.state, self.values = (
            number,
            dict(candidate),
            "finished",
            {"loss": loss},
        )


def stage_of(name: str, seed: int) -> Any:
    data = job_data("bowl", 40, sampler={"name": name, **OPTIONS.get(name, {})}, job={"seed": seed})
    stage = resolve(data, Registry.discover()).stages[0]
    assert stage.sampler is not None
    stage.sampler.start(stage.problem)
    return stage


def loss(candidate: Candidate) -> float:
    return (float(candidate["x"]) - 0.3) ** 2 + float(candidate["y"]) ** 2  # type: ignore[arg-type]


def log_of(sampler: Sampler, asks: int) -> list[tuple[str, Any]]:
    log: list[tuple[str, Any]] = []
    for number in range(asks):
        candidate = sampler.ask(number)
        row = Row(number, candidate, loss(candidate))
        sampler.tell(number, candidate, Observation("finished", row.values))
        log += [("ask", row), ("tell", row)]
    return log


@pytest.mark.parametrize("name", NAMES)
def test_a_log_that_isnt_reproduced_becomes_history(name: str, caplog: pytest.LogCaptureFixture) -> None:
    asks = 8 if name == "gp" else 20
    log = log_of(stage_of(name, 1).sampler, asks)
    other = stage_of(name, 2)  # another seed stands for another version
    with caplog.at_level(logging.WARNING):
        restored = restore_sampler(other.sampler, other, log)
    changed = restored.restore == "re-ask"
    assert (restored is not other.sampler) == changed
    assert ("has another version. The job goes on from the trials' history" in caplog.text) == changed
    assert sum("no longer proposes" in record.message for record in caplog.records) == changed
    further = [restored.ask(number) for number in range(asks, asks + 6)]
    assert len({candidate.digest for candidate in further}) > 3
    for number, candidate in enumerate(further, start=asks):
        restored.tell(number, candidate, Observation("finished", {"loss": loss(candidate)}))


def test_what_the_history_taught_is_used() -> None:
    """NSGA-II breeds from the trials that it is told of."""
    stage = stage_of("nsga2", 1)
    log = log_of(stage.sampler, 60)
    other = stage_of("nsga2", 2)
    restored = restore_sampler(other.sampler, other, log)
    assert restored is not other.sampler
    further = sorted(loss(restored.ask(number)) for number in range(60, 80))
    at_random = sorted(loss(stage_of("random", 2).sampler.ask(number)) for number in range(20))
    assert further[10] < at_random[10] / 3


def test_asks_are_restored_before_results_that_came_while_they_were_examined(catalog: Catalog) -> None:
    driver = _driver(catalog)
    first = driver.launch(0)
    # Candidate 1 was asked for before trial 0 ended, and was recorded after.
    driver.ledger.finish([result(first)])
    driver.ask(proposal(1, after=0))
    driver.ask(proposal(2, after=1))
    assert driver.events() == [("ask", 0), ("ask", 1), ("tell", 0), ("ask", 2)]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog.open(str(tmp_path / "catalog.db"))


def _driver(catalog: Catalog) -> Driver:
    ledger: Ledger = catalog.create_job(draft(), "me", 60)
    ledger.start_job()
    [stage] = catalog.stages(ledger.job_id)
    ledger.start_stage(stage.id, "")
    return _Unshared(ledger, stage.id)


class _Unshared(Driver):
    def ask(self, *proposals: Any, recall: Any = None) -> Any:
        return super().ask(*proposals, recall=None)


def test_a_sampler_that_is_through_earlier_than_before_is_told_the_history() -> None:
    class Short(Sampler):
        name, summary, restore = "short", "a list", "re-ask"

        def ask(self, number: int) -> Candidate:
            raise SpaceExhausted("nothing")

    stage = stage_of("random", 1)
    log = log_of(stage.sampler, 2)
    sampler = Short()
    sampler.start(stage.problem)
    assert restore_sampler(sampler, stage, log) is not sampler
