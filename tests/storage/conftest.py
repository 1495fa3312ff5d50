"""One catalog a test, on SQLite and on PostgreSQL; and short words for what the tests do to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from orchestrate.core import Candidate, Key, Print
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.ledger import (
    Decision,
    JobDraft,
    Launch,
    Ledger,
    Proposal,
    RecallPolicy,
    Result,
)
from orchestrate.storage.models import JobRow, TrialRow

CONTEXT = "c" * 32
POLICY = RecallPolicy(CONTEXT, "catalog", frozenset({"accuracy"}))
OWN = RecallPolicy(CONTEXT, "job", frozenset({"accuracy"}))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'catalog.db'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    with Catalog.open(url) as catalog:
        yield catalog


def draft(name: str = "digits job", stages: tuple[str, ...] = ("search",)) -> JobDraft:
    return JobDraft(name, {"name": name}, f"name: {name}\n", 7, {"host": "here"}, stages)


def proposal(
    number: int, *keys: str, infeasible: str | None = None, after: int | None = None, **values: float
) -> Proposal:
    return Proposal(
        number=number,
        candidate=Candidate({"x": number, "kind": "a"}),
        seed=2**62 + number,
        print=Print(tuple(Key("functional", key) for key in keys)),
        values=values,
        timings={"propose": 0.25},
        infeasible=infeasible,
        after=after,
    )


def result(trial_id: int, state: Any = "finished", accuracy: float = 0.5, **more: Any) -> Result:
    scores = {"accuracy": accuracy}
    return Result(trial_id, state, "", {**scores, "loss": 1.0}, scores, {"run": 2.0}, **more)


@dataclass
class Driver:
    """A job in its first stage."""

    ledger: Ledger
    stage_id: int

    @property
    def job_id(self) -> str:
        return self.ledger.job_id

    def ask(self, *proposals: Proposal, recall: RecallPolicy | None = POLICY) -> list[Decision]:
        return self.ledger.propose(self.stage_id, proposals, recall)

    def launch(self, number: int, *keys: str) -> int:
        [decision] = self.ask(proposal(number, *keys))
        assert isinstance(decision, Launch)
        return decision.trial_id

    def trial(self, trial_id: int) -> TrialRow:
        return self.ledger.catalog.trial(trial_id)

    def events(self) -> list[tuple[str, int]]:
        return [(kind, row.number) for kind, row in self.ledger.catalog.events(self.stage_id)]

    def die(self) -> None:
        """The lease runs out, as after a `kill -9`."""
        with self.ledger.catalog.engine.begin() as connection:
            connection.execute(update(JobRow).where(JobRow.id == self.job_id).values(lease_expires_at=1.0))

    def revived(self) -> Driver:
        return Driver(self.ledger.catalog.take_job(self.job_id, "next driver", 60), self.stage_id)


def started(catalog: Catalog, name: str = "digits job") -> Driver:
    ledger = catalog.create_job(draft(name), "first driver", 60)
    ledger.start_job()
    [stage] = catalog.stages(ledger.job_id)
    ledger.start_stage(stage.id, CONTEXT)
    return Driver(ledger, stage.id)


@pytest.fixture
def driver(catalog: Catalog) -> Driver:
    return started(catalog)
