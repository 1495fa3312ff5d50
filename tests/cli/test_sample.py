"""`orchestrate sample`: the sampler is restored from the log and asked; nothing changes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrate.core import Candidate, Observation, Sampler, Suggestion
from orchestrate.scheduler.history import trained_kind
from orchestrate.scheduler.settings import Settings
from orchestrate.storage.artifacts import ArtifactStore
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.ledger import JobDraft, Proposal, Result
from tests.cli.conftest import GOALS, Run

SAMPLER = {"name": f"python:{__name__}:Weighs"}


class Weighs(Sampler):
    """Suggests what it was told, best by the weighted sum first; predicts what it saw."""

    def start(self, problem: Any) -> None:
        super().start(problem)
        self.seen: dict[Candidate, Observation] = {}
        self.adopted = 0
        self.loaded: bytes | None = None

    def ask(self, number: int) -> Candidate:
        raise AssertionError("a sampler that is restored by history is never asked again")

    def adopt(self, number: int, candidate: Candidate) -> None:
        self.adopted += 1

    def tell(self, number: int, candidate: Candidate, observation: Observation) -> None:
        self.seen[candidate] = observation

    def load(self, saved: bytes) -> None:
        self.loaded = saved

    def propose_for(self, preference: Mapping[str, float], count: int) -> Sequence[Suggestion]:
        assert self.adopted == 3
        best = sorted(
            self.seen.items(),
            key=lambda item: (
                preference["flops"] * item[1].values["flops"]
                - preference["accuracy"] * item[1].values["accuracy"]
            ),
        )
        return [
            Suggestion(candidate, observation.values, {"accuracy": 0.25, "flops": 0.0}, self.log_probability)
            for candidate, observation in best[:count]
        ]

    @property
    def log_probability(self) -> float:
        return -2.5 if self.loaded is None else float(self.loaded)


@pytest.fixture
def job(catalog: Catalog) -> str:
    """A finished job of three trials."""
    return made(catalog, SAMPLER)


def made(catalog: Catalog, sampler: Mapping[str, Any], trained: bytes | None = None) -> str:
    spec: dict[str, Any] = {
        "name": "asked",
        "space": {"name": "hyperparameters", "choices": {"width": {"integer": [1, 3]}}},
        "objectives": [
            {"metric": "accuracy", "direction": "maximize"},
            {"metric": "flops", "direction": "minimize"},
        ],
        "stages": [
            {
                "name": "search",
                "program": {"name": f"python:{__name__}:program"},
                "sampler": dict(sampler),
                "trials": 3,
            }
        ],
    }
    ledger = catalog.create_job(
        JobDraft("asked", spec, "name: asked\n", 0, {"goals": GOALS}, ("search",)), "there:1", 30.0
    )
    stage = catalog.stages(ledger.job_id)[0].id
    ledger.start_job()
    ledger.start_stage(stage, "context")
    for width, accuracy, flops in ((1, 0.5, 0.1), (2, 0.7, 0.4), (3, 0.8, 0.9)):
        proposal = Proposal(width - 1, Candidate({"width": width}), seed=width)
        decision = ledger.propose(stage, [proposal], None)[0]
        values = {"accuracy": accuracy, "flops": flops}
        ledger.finish([Result(decision.trial_id, "finished", "", values, values, {})])
    if trained is not None:
        store = ArtifactStore(Settings().artifacts)
        kept = store.put_bytes(trained, ledger.job_id, "search", "sampler.state", trained_kind("search"))
        ledger.add_artifacts([kept])
    ledger.end_stage(stage, "finished")
    ledger.end_job("finished", "")
    ledger.release()
    return ledger.job_id


def program(trial: Any) -> float:
    """Not run."""
    raise AssertionError


def test_the_preference_reaches_the_restored_sampler(run: Run, job: str) -> None:
    data = json.loads(run("sample", job, "--prefer", "accuracy=3,flops=1", "-n", "2", "--json").out)
    assert data["preference"] == {"accuracy": 0.75, "flops": 0.25}
    assert [one["candidate"]["width"] for one in data["candidates"]] == [2, 3]
    other = json.loads(run("sample", "asked", "--prefer", "flops=1", "--json").out)
    assert [one["candidate"]["width"] for one in other["candidates"]] == [1, 2, 3]
    assert other["candidates"][0] == {
        "candidate": {"width": 1},
        "predicted": {"accuracy": 0.5, "flops": 0.1},
        "deviation": {"accuracy": 0.25, "flops": 0.0},
        "log_probability": -2.5,
    }


def test_people_get_a_table(run: Run, job: str) -> None:
    shown = run("sample", job, "--prefer", "accuracy=1").out
    assert "3 candidates" in shown
    assert "0.8 ± 0.25" in shown
    assert "width=3" in shown
    assert "log p" in shown


def test_asking_changes_nothing(run: Run, job: str) -> None:
    def everything() -> list[Any]:
        with Catalog.open(Settings().catalog_url) as catalog:
            stage = catalog.stages(job)[0].id
            return [(kind, row.number, row.state) for kind, row in catalog.events(stage)]

    before = everything()
    run("sample", job, "--prefer", "accuracy=1")
    assert everything() == before


def test_what_the_sampler_trained_reaches_it(
    run: Run, catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    job = made(catalog, SAMPLER, trained=b"-7.5")

    def told() -> float:
        answer = json.loads(run("sample", job, "--prefer", "accuracy=1", "--json").out)
        return answer["candidates"][0]["log_probability"]

    assert told() == -7.5
    [kept] = catalog.artifacts(job, kind=trained_kind("search"))
    Path(kept.uri).write_bytes(b"-9")
    assert told() == -2.5  # a file that changed is not used, and that is said
    assert "has changed" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prefer", "acc=1"), "no optimised objective is called 'acc'"),
        (("--prefer", "accuracy"), "write it as name=weight"),
        (("--prefer", "accuracy=1", "--stage", "serch"), "Did you mean 'search'"),
    ],
)
def test_mistakes_are_told(run: Run, job: str, arguments: tuple[str, ...], message: str) -> None:
    ended = run("sample", job, *arguments)
    assert ended.code == 2
    assert message in ended.err


def test_a_sampler_that_learns_no_preference_is_named(run: Run, catalog: Catalog) -> None:
    ended = run("sample", made(catalog, {"name": "random"}), "--prefer", "accuracy=1")
    assert ended.code == 2
    assert "'random', which can't be asked for a preference" in ended.err
