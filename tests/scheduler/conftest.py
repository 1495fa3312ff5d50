"""Runs job files, given as data, in a catalog of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrate.core import Candidate, resolve
from orchestrate.core.registry import Registry
from orchestrate.core.seeds import seed_all
from orchestrate.core.testing import LocalTrial
from orchestrate.plugins.tasks.digits import Digits
from orchestrate.scheduler.driver import JobOutcome, submit
from orchestrate.scheduler.settings import Settings
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.models import TrialRow
from tests.scheduler import parts

PARTS = "python:tests.scheduler.parts"

Submit = Callable[..., tuple[JobOutcome, list[TrialRow]]]


def job_data(
    program: str, trials: int = 6, *, space: str = "Square", job: Any = None, **stage: Any
) -> dict[str, Any]:
    """A one-stage job that minimises the program's `loss`."""
    name, _, options = program.partition(" ")
    made = {"name": f"{PARTS}:{name}", **(yaml.safe_load(options) if options else {})}
    return {
        "name": "test",
        "space": {"name": f"{PARTS}:{space}"},
        "objectives": [{"metric": "loss", "direction": "minimize"}],
        "stages": [
            {"name": "search", "program": made, "sampler": {"name": "random"}, "trials": trials, **stage}
        ],
        "seed": 5,
        **(job or {}),
    }


def assert_steady(row: TrialRow, folder: Path, steps: int = 9) -> None:
    """Check that a trial of `steady` has come to what it comes to in this process."""
    trial = LocalTrial(
        Candidate(row.candidate), parts.Square(), Digits(), folder, seed=row.seed, number=row.number
    )
    seed_all(row.seed)
    wanted = parts.steady(trial, steps)
    assert {name: row.metrics[name] for name in wanted} == pytest.approx(wanted, abs=1e-10, rel=1e-10)
    assert row.metrics["workers/rounds"] > 0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", catalog=None, tracking=None, address=None, lineage=False)


@pytest.fixture
def catalog(settings: Settings) -> Catalog:
    return Catalog.open(settings.catalog_url)


@pytest.fixture
def run_job(ray_cluster: str, settings: Settings, catalog: Catalog) -> Submit:
    def run(data: dict[str, Any], *listeners: object) -> tuple[JobOutcome, list[TrialRow]]:
        job = resolve(data, Registry.discover())
        for listener in listeners:
            job.registry.listen(listener)
        outcome = submit(job, yaml.safe_dump(data), settings)
        return outcome, catalog.trials(outcome.job_id)

    return run
