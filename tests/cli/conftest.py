"""Runs commands in this process, and makes jobs without running any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrate.cli.main import app
from orchestrate.core import Candidate, Key, Print
from orchestrate.scheduler.settings import Settings
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.ledger import JobDraft, Launch, Ledger, Proposal, RecallPolicy, Report, Result

GOALS = [
    {"name": "accuracy", "direction": "maximize", "minimum": None, "maximum": None, "reference": None},
    {"name": "flops", "direction": "minimize", "minimum": None, "maximum": None, "reference": None},
]
SPEC: dict[str, Any] = {
    "name": "made",
    "space": {"name": "nasbench201"},
    "objectives": [{"name": "accuracy"}, {"name": "flops"}],
    "stages": [{"name": "search", "program": {"name": "train"}, "sampler": {"name": "random"}, "trials": 6}],
    "seed": 3,
}
POLICY = RecallPolicy("context", "catalog", frozenset({"accuracy", "flops"}))


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run() -> Run:
    """Run a command line; gives exit code, stdout and stderr."""

    def run(*arguments: str, **environment: str) -> Ran:
        result = CliRunner().invoke(app, arguments, env=environment, prog_name="orchestrate")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def catalog() -> Catalog:
    """The catalog that commands in the test's folder find."""
    return Catalog.open(Settings().catalog_url)


def candidate(number: int) -> Candidate:
    return Candidate({"op": f"conv{number}", "width": 16, "depth": number % 2})


@dataclass
class MadeJob:
    """A job in the making."""

    ledger: Ledger
    stage: int

    def finish(self, number: int, accuracy: float, flops: float, *, like: int | None = None) -> None:
        """Trial `number` ends with these values; `like` an earlier one, it is recalled."""
        same = number if like is None else like
        decision = self._propose(number, candidate(same), key=f"key{same}")
        if not isinstance(decision, Launch):
            return
        values = {"accuracy": accuracy, "flops": flops}
        timings = {"propose": 0.001, "fingerprint": 0.002, "launch": 0.05, "run": 2.0, "measure": 0.0}
        reports = [Report(step, {"accuracy": accuracy / 2 * step}, datetime.now(UTC)) for step in (1, 2)]
        self.ledger.finish(
            [Result(decision.trial_id, "finished", "", values, values, timings, reports=reports, node="here")]
        )

    def fail(self, number: int, message: str) -> None:
        """Trial `number` fails."""
        decision = self._propose(number, candidate(number), key=f"key{number}")
        error = {
            "type": "ValueError",
            "message": message,
            "traceback": f"Traceback (most recent call last):\n  File x.py\nValueError: {message}\n",
            "frame": "x.py:7",
        }
        self.ledger.fail(decision.trial_id, "failed", error, f"ValueError: {message}", retry=False)

    def end(self, state: str = "finished", reason: str = "") -> str:
        """End the job and let it go; gives its id."""
        if state == "finished":
            self.ledger.end_stage(self.stage, "finished")
        self.ledger.end_job(state, reason)
        self.ledger.release()
        return self.ledger.job_id

    def _propose(self, number: int, made: Candidate, key: str) -> Any:
        proposal = Proposal(number, made, seed=number, print=Print((Key("exact", key),)))
        return self.ledger.propose(self.stage, [proposal], POLICY)[0]


Make = Callable[..., MadeJob]


@pytest.fixture
def make(catalog: Catalog) -> Make:
    """Make a job that has started its only stage."""

    def make(name: str = "made") -> MadeJob:
        provenance = {"goals": GOALS, "user": "me", "host": "there"}
        draft = JobDraft(name, SPEC, "name: made\n", 3, provenance, ("search",))
        ledger = catalog.create_job(draft, "there:1", 30.0)
        stage = catalog.stages(ledger.job_id)[0].id
        ledger.start_job()
        ledger.start_stage(stage, "context")
        return MadeJob(ledger, stage)

    return make


@pytest.fixture
def done(make: Make) -> str:
    """A finished job: four trials run, one recalled, one failed. The front is #1, #0, #3."""
    job = make()
    job.finish(0, 0.9, 2e6)
    job.finish(1, 0.95, 3e6)
    job.finish(2, 0.8, 2.5e6)
    job.finish(3, 0.7, 1e6)
    job.finish(4, 0.0, 0.0, like=1)
    job.fail(5, "no luck")
    return job.end()
