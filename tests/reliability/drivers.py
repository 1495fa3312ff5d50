"""Drivers in processes of their own, quick to start: forked from one that has imported everything."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import yaml

from orchestrate.core.crash import VARIABLE
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.check import check

PRELOAD = [
    "pytest",
    "torch",
    "optuna",
    "ray.tune",
    "orchestrate.scheduler.driver",
    "orchestrate.scheduler.engine",
]
KILLED = -9


class Home:
    """One job's folder and catalog, and the drivers that run it."""

    def __init__(self, folder: Path, address: str, catalog: str | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.address = address
        self.url = catalog or f"sqlite:///{folder / 'catalog.db'}"

    def submit(self, data: Mapping[str, Any], crash: str = "", **settings: Any) -> BaseProcess:
        """Start a driver that submits a job."""
        return self._start(data, crash, settings)

    def resume(self, crash: str = "", job: str = "", **settings: Any) -> BaseProcess:
        """Start a driver that resumes a job, by default the newest."""
        return self._start(job, crash, settings)

    def _start(self, job: Mapping[str, Any] | str, crash: str, settings: Mapping[str, Any]) -> BaseProcess:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        root = str(Path(__file__).parents[2])
        known = {"catalog": self.url, "address": self.address, "lineage": False, **settings}
        process = context.Process(target=_drive, args=(job, str(self.folder), root, crash, known))
        process.start()
        return process

    def open(self) -> Catalog:
        """The catalog."""
        return Catalog.open(self.url)

    def crash_at(self, point: str, number: int) -> str:
        """A plan to die at the point, once."""
        return f"{point}:{number}:{self.folder / 'died'}"

    @property
    def said(self) -> str:
        """What the drivers logged."""
        path = self.folder / "log.txt"
        return path.read_text(encoding="utf-8")[-3000:] if path.exists() else ""


def delivery(catalog: str, store: str, crash: str) -> BaseProcess:
    """Start a process that brings the catalog's lineage to an MLflow store."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOAD, "mlflow", "orchestrate.storage.lineage.delivery"])
    process = context.Process(target=_deliver, args=(catalog, store, crash))
    process.start()
    return process


def _deliver(catalog: str, store: str, crash: str) -> None:
    os.environ[VARIABLE] = crash
    from orchestrate.storage.lineage import sync

    with Catalog.open(catalog) as opened:
        result = sync(opened, store)
    os._exit(bool(result.remaining))


def ended(process: BaseProcess, seconds: float = 90) -> int | None:
    """Wait for a driver; its exit status."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"the driver {process.pid} didn't end in {seconds:g} s")
    return process.exitcode


def _part() -> None:
    """Go on from a place of its own in the sequence of Ray's random ids, whose generator the fork has copied:
    drivers that connect at once would make objects of the same id, and die in Ray.
    """
    import ray

    for _ in range(int.from_bytes(os.urandom(2), "little")):
        ray.ObjectRef.from_random()


def _drive(job: Any, home: str, root: str, crash: str, known: Mapping[str, Any]) -> None:
    os.chdir(home)
    sys.path.insert(0, root)
    os.environ["PYTHONPATH"] = root  # for the workers
    log = Path("log.txt").open("a", encoding="utf-8")  # noqa: SIM115 - as long as the process lives
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    logging.basicConfig(stream=log, level=logging.WARNING)
    _part()
    if crash:
        os.environ[VARIABLE] = crash
    from orchestrate.core import resolve
    from orchestrate.core.registry import Registry
    from orchestrate.scheduler.driver import resume, submit
    from orchestrate.scheduler.settings import Settings

    settings = Settings(home=Path(home), **{"tracking": None, **known})
    if isinstance(job, str):
        with Catalog.open(settings.catalog_url) as catalog:
            job_id = catalog.job(job).id if job else catalog.jobs()[0].id
        outcome = resume(job_id, settings)
    else:
        outcome = submit(resolve(job, Registry.discover()), yaml.safe_dump(job), settings)
    print(outcome, file=log, flush=True)
    os._exit(0 if outcome.state == "finished" else 3)


def snapshot(home: Home) -> dict[str, Any]:
    """All that must be the same however often a job was interrupted; and the catalog must be sound."""
    with home.open() as catalog:
        job = catalog.jobs()[0]
        stages = {row.id: row.name for row in catalog.stages(job.id)}
        rows = catalog.trials(job.id)
        numbers = {row.id: row.number for row in rows}
        assert check(catalog) == []
        return {
            "job": job.state,
            "stages": [row.state for row in catalog.stages(job.id)],
            "trials": [
                {
                    "stage": stages[row.stage_id],
                    "number": row.number,
                    "candidate": row.candidate,
                    "state": row.state,
                    "values": row.values,
                    "metrics": row.metrics,
                    "seed": row.seed,
                    "source": numbers.get(row.recalled_from or 0),
                    "reports": [(report.step, report.metrics) for report in catalog.reports(row.id)],
                    "files": sorted((file.kind, file.sha256) for file in catalog.artifacts_of(row.id)),
                }
                for row in rows
            ],
            "events": {
                name: [(kind, row.number) for kind, row in catalog.events(ident)]
                for ident, name in stages.items()
            },
        }


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for something to become true."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def kill(pid: int | None) -> None:
    """As `kill -9`; one that is gone already is fine."""
    with suppress(ProcessLookupError):
        os.kill(pid or 0, 9)
