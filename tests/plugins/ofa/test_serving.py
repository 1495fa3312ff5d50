"""A finished job serves new limits: the function, and the command."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from orchestrate.core import Job, SpecError, resolve
from orchestrate.core.registry import Registry
from orchestrate.core.results import JobResults, Results
from orchestrate.plugins.ofa.command import specialize
from orchestrate.plugins.ofa.network import load
from orchestrate.plugins.ofa.options import PredictOptions
from orchestrate.plugins.ofa.predictor import Ridge, unique_candidates
from orchestrate.plugins.ofa.search import InfeasibleError, Limits
from orchestrate.plugins.ofa.serving import serve
from orchestrate.plugins.ofa.supernet import save_supernet
from tests.plugins.ofa.conftest import make_supernet

SCORING = {"calibration_images": 40, "calibration_batch": 20}
JOB = {
    "name": "served",
    "task": {"name": "python:tests.core.training.networks:Blobs"},
    "space": {"name": "ofa-mobilenetv3", "preset": "tiny", "resolutions": [6], "depths": [1, 2]},
    "stages": [
        {"name": "train", "program": {"name": "ofa-train", "epochs": 1, **SCORING}},
        {"name": "table", "program": {"name": "ofa-predict", "supernet": "train", **SCORING}},
    ],
}


class Finished(JobResults):
    def __init__(self, job: Job, files: dict[tuple[str, str], Path]) -> None:
        self.id = "served-1"
        self.job = job
        self.files = files

    def artifact(self, kind: str, stage: str) -> Path | None:
        return self.files.get((stage, kind))


class Jobs(Results):
    def __init__(self, finished: Finished) -> None:
        self.finished = finished

    def open(self, reference: str, catalog: str | None = None) -> JobResults:
        assert reference == "served"
        return self.finished


@pytest.fixture(scope="module")
def job() -> Job:
    return resolve(JOB, Registry.discover())


@pytest.fixture
def finished(job: Job, tmp_path: Path) -> Finished:
    space: Any = job.stages[0].space
    save_supernet(make_supernet(space, job.task.shape()), tmp_path / "supernet.safetensors")
    return Finished(job, {("train", "supernet"): tmp_path / "supernet.safetensors"})


FEW: dict[str, Any] = {"population": 8, "generations": 1, "top": 3}


def test_a_limit_is_served(finished: Finished, tmp_path: Path) -> None:
    limits = Limits(macs=100_000)
    found = serve(finished, limits, output=tmp_path / "out", **FEW)
    assert found.searched_on == "measured"
    assert found.costs.macs <= 100_000
    assert found.accuracy == max(one.accuracy for one in found.remeasured)
    assert found.proof["output_difference"] == 0.0
    assert found.regret == 0.0  # it searched on the very accuracy that it measured again
    network = load(tmp_path / "out")
    assert network.plan == finished.job.stages[0].space.plan(found.candidate, finished.job.task.shape())
    assert {path.name for path in found.files.values()} == {
        "network.json",
        "weights.safetensors",
        "proof.json",
    }


def test_a_predictor_is_used_and_its_regret_told(finished: Finished, tmp_path: Path) -> None:
    import numpy as np

    space: Any = finished.job.stages[0].space
    shape = finished.job.task.shape()
    predictor = Ridge(space, shape, PredictOptions(supernet="train").ridge)
    chosen = unique_candidates(space, 30, np.random.default_rng(0))
    predictor.fit(chosen, np.linspace(0, 1, 30))
    predictor.write(tmp_path / "predictor.json")
    finished.files["table", "predictor.json"] = tmp_path / "predictor.json"
    found = serve(finished, Limits(), **FEW)
    assert found.searched_on == "predicted"
    assert found.regret >= 0.0
    assert [one.fitness for one in found.remeasured] == sorted(
        (one.fitness for one in found.remeasured), reverse=True
    )
    assert serve(finished, Limits(), measured=True, **FEW).searched_on == "measured"


def test_latency_may_be_timed_here(finished: Finished) -> None:
    found = serve(finished, Limits(latency_ms=10_000), latency_here=True, **FEW)
    assert found.costs.latency_ms is not None
    assert found.whole_latency_ms is not None
    assert 0 < found.costs.latency_ms < 10_000
    with pytest.raises(InfeasibleError, match="cheapest has latency_ms"):
        serve(finished, Limits(latency_ms=1e-6), latency_here=True)


def test_what_cannot_be_served_is_refused_at_once(finished: Finished) -> None:
    begun = time.process_time()
    with pytest.raises(InfeasibleError, match="cheapest has macs"):
        serve(finished, Limits(macs=10))
    with pytest.raises(SpecError, match="ofa-profile"):
        serve(finished, Limits(latency_ms=1))
    with pytest.raises(SpecError, match="no such format"):
        serve(finished, Limits(), formats=["onyx"])
    with pytest.raises(SpecError, match="no trained supernet"):
        serve(Finished(finished.job, {}), Limits())
    assert time.process_time() - begun < 1


def test_the_command(finished: Finished, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command("specialize")(specialize)
    few = ["--population", "8", "--generations", "1", "--top", "2"]
    arguments = ["served", "--max-macs", "1e5", "--output", str(tmp_path / "out"), *few]
    shown = CliRunner().invoke(app, [*arguments, "--json"], obj=Jobs(finished))
    assert shown.exit_code == 0, shown.output
    data = json.loads(shown.stdout)
    assert data["costs"]["macs"] <= 1e5
    assert Path(data["files"]["export.json"]).is_file()
    told = CliRunner().invoke(app, arguments, obj=Jobs(finished))
    assert told.exit_code == 0, told.output
    assert "chosen" in told.stdout
    refused = CliRunner().invoke(app, ["served", "--max-macs", "10"], obj=Jobs(finished))
    assert isinstance(refused.exception, InfeasibleError)
