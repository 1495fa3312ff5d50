"""A small finished job, written through the ledger as a driver does: every state, three stages, files."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from orchestrate.core import Candidate, Choose, SearchSpace, Shape
from orchestrate.core.fingerprint import Key, Print
from orchestrate.storage.artifacts import ArtifactStore
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.ledger import JobDraft, Launch, Ledger, Proposal, RecallPolicy, Report, Result
from orchestrate.storage.report import write_report

if TYPE_CHECKING:
    from torch import nn

SPACE = "python:tests.storage.finished_job:Perceptrons"
TASK = {
    "name": "digits",
    "options": {"seed": 0},
    "digest": "0123456789abcdef" * 4,
    "input": [1, 8, 8],
    "classes": 10,
}
GOALS = [
    {"name": "accuracy", "direction": "maximize", "minimum": None, "maximum": None, "reference": None},
    {"name": "flops", "direction": "minimize", "minimum": None, "maximum": 90_000.0, "reference": None},
]


class Perceptrons(SearchSpace):
    """One hidden layer of some width and activation."""

    def choices(self, choose: Choose) -> None:
        choose.integer("width", 8, 1024)
        choose.categorical("activation", ["relu", "tanh"])

    def build(self, candidate: Candidate, shape: Shape) -> nn.Module:
        from math import prod

        from torch import nn

        width = int(candidate["width"])  # type: ignore[arg-type]
        activation = nn.ReLU() if candidate["activation"] == "relu" else nn.Tanh()
        first = nn.Linear(prod(shape.input), width)
        return nn.Sequential(nn.Flatten(), first, activation, nn.Linear(width, shape.classes))


def job_spec(**extra: Any) -> dict[str, Any]:
    return {
        "name": "digits-nas",
        "task": {"name": "digits"},
        "space": {"name": SPACE},
        "objectives": [
            {"name": "metric", "metric": "accuracy", "direction": "maximize"},
            {"name": "flops", "max": 90_000.0},
        ],
        "stages": [
            {"name": "supernet", "program": {"name": "pretrain", "epochs": 2}},
            {
                "name": "search",
                "program": {"name": "evaluate", "supernet": "supernet"},
                "sampler": {"name": "tpe"},
                "recall": {"name": "exact"},
                "trials": 16,
            },
            {
                "name": "deploy",
                "program": {"name": "train", "epochs": 3, "supernet": "supernet"},
                "take": {"from": "search", "pareto": 3},
            },
        ],
        "seed": 7,
        **extra,
    }


PROVENANCE: dict[str, Any] = {
    "command": ["/usr/bin/orchestrate", "submit", "job.yaml"],
    "goals": GOALS,
    "packages": {"orchestrate-automl": "0.1.0", "torch": "2.13.0", "mlflow": "3.17.2"},
    "plugins": {
        "program:train": "orchestrate-automl 0.1.0",
        "sampler:tpe": "orchestrate-automl 0.1.0",
        "task:digits": "orchestrate-automl 0.1.0",
    },
    "python": "3.11.2",
    "platform": "Linux",
    "host": "node1",
    "user": "ann",
    "git_commit": "0123456789abcdef0123456789abcdef01234567+",
}


def utc() -> datetime:
    return datetime.now(UTC)


@dataclass
class Written:
    """The job, and the ledger to write more of it."""

    catalog: Catalog
    ledger: Ledger
    home: Path

    @property
    def job_id(self) -> str:
        return self.ledger.job_id

    def stage(self, name: str) -> int:
        return next(row.id for row in self.catalog.stages(self.job_id) if row.name == name)


def begin(catalog: Catalog, home: Path, provenance: dict[str, Any] | None = None, **extra: Any) -> Written:
    spec = job_spec(**extra)
    stages = tuple(stage["name"] for stage in spec["stages"])
    known = {**PROVENANCE, **(provenance or {})}
    draft = JobDraft(spec["name"], spec, yaml.safe_dump(spec, sort_keys=False), spec["seed"], known, stages)
    written = Written(catalog, catalog.create_job(draft, "test:1", 60.0), home)
    written.ledger.start_job()
    written.ledger.set_provenance(task=TASK)
    return written


def launch(
    written: Written,
    stage: str,
    number: int,
    candidate: dict[str, Any],
    policy: RecallPolicy | None = None,
    infeasible: str | None = None,
) -> int:
    """Propose a candidate; the trial's id. It may have been recalled."""
    made = Candidate(candidate)
    width = candidate.get("width", 0)
    proposal = Proposal(
        number=number,
        candidate=made,
        seed=1000 + number,
        print=Print((Key("exact", made.digest),) if policy else ()),
        values={"flops": float(2 * width * 74)} if width else {},
        timings={"propose": 0.002, "fingerprint": 0.01},
        infeasible=infeasible,
    )
    return written.ledger.propose(written.stage(stage), [proposal], policy)[0].trial_id


def finish(
    written: Written,
    trial_id: int,
    accuracy: float,
    epochs: int = 3,
    state: str = "finished",
    files: Sequence[tuple[str, Path]] = (),
) -> None:
    row = written.catalog.trial(trial_id)
    stage = next(s for s in written.catalog.stages(written.job_id) if s.id == row.stage_id)
    for epoch in range(1, epochs + 1):
        metrics = {"accuracy": accuracy * epoch / epochs, "loss": 2.0 / epoch}
        written.ledger.report([(trial_id, Report(epoch, metrics, utc()))])
    store = ArtifactStore(written.home / "artifacts")
    kept = [store.put(path, written.job_id, stage.name, row.number, kind, trial_id) for kind, path in files]
    values = {**row.values, "accuracy": accuracy} if stage.name != "supernet" else {}
    result = Result(
        trial_id=trial_id,
        state=state,
        reason="stopped by asha" if state == "pruned" else "",
        metrics={"accuracy": accuracy, "loss": 2.0 / epochs},
        values=values,
        timings={"launch": 0.02, "run": 1.5},
        artifacts=kept,
        node="node1",
    )
    written.ledger.finish([result])


def fail(written: Written, trial_id: int, state: str, *, retry: bool = False) -> None:
    error = {
        "type": "ValueError",
        "message": "the width | is <odd>",
        "traceback": "Traceback (most recent call last):\n  ...\nValueError: the width | is <odd>",
        "frame": "net.py:12",
    }
    written.ledger.fail(trial_id, state, error, "ValueError: the width | is <odd>", retry=retry)


def write_supernet(written: Written) -> None:
    ledger, stage = written.ledger, written.stage("supernet")
    ledger.start_stage(stage)
    trial = launch(written, "supernet", 0, {})
    path = written.home / "supernet.safetensors"
    path.write_bytes(b"weights of a supernet" * 100)
    candidate = {"width": 1024, "activation": "relu"}
    described, picture = written.home / "candidate.json", written.home / "phases.svg"
    described.write_text(Candidate(candidate).json)
    picture.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    files = [("supernet", path), ("candidate", described), ("phases.svg", picture)]
    finish(written, trial, 0.5, files=[*files, *_weights(written, candidate)])
    ledger.end_stage(stage, "finished")


def write_search(written: Written, seed: int = 0) -> None:
    """16 trials that count, one infeasible: finished, recalled, failed, lost, pruned, cancelled, retried."""
    draw = random.Random(seed)
    ledger, stage = written.ledger, written.stage("search")
    policy = RecallPolicy("context", "catalog", frozenset({"accuracy"}))
    ledger.start_stage(stage, "context")
    widths = [16, 32, 48, 64, 96, 128, 192, 256, 320, 400, 512, 600]
    for number, width in enumerate(widths):
        candidate = {"width": width, "activation": draw.choice(["relu", "tanh"])}
        trial = launch(written, "search", number, candidate, policy)
        if number == 3:
            fail(written, trial, "lost", retry=True)
            again = ledger.reconsider([trial], policy)
            assert isinstance(again[0], Launch)
        finish(written, trial, round(0.97 - 3.0 / width + draw.uniform(-0.04, 0.0), 4))
    again = written.catalog.trials(stage_id=stage)[2].candidate
    recalled = launch(written, "search", 12, again, policy)
    assert written.catalog.trial(recalled).state == "recalled"
    fail(written, launch(written, "search", 13, {"width": 20, "activation": "relu"}, policy), "failed")
    fail(written, launch(written, "search", 14, {"width": 21, "activation": "relu"}, policy), "lost")
    pruned = launch(written, "search", 15, {"width": 22, "activation": "relu"}, policy)
    finish(written, pruned, 0.2, epochs=1, state="pruned")
    launch(
        written,
        "search",
        16,
        {"width": 1000, "activation": "relu"},
        policy,
        infeasible="flops is 148000 > 90000",
    )
    ledger.cancel([launch(written, "search", 17, {"width": 23, "activation": "relu"}, policy)], "enough")
    ledger.end_stage(stage, "finished", "the time budget is used up")


def write_deploy(written: Written, networks: bool = True, lesser: bool = False) -> None:
    """Three trials of the front; with `lesser` a fourth that isn't, with an exported network."""
    ledger, stage = written.ledger, written.stage("deploy")
    ledger.start_stage(stage)
    for number, width in enumerate((512, 128, 32)):
        candidate = {"width": width, "activation": "relu"}
        trial = launch(written, "deploy", number, candidate)
        finish(written, trial, 0.98 - 1.0 / width, files=_weights(written, candidate) if networks else ())
    if lesser:
        candidate = {"width": 600, "activation": "relu"}
        trial = launch(written, "deploy", 3, candidate)
        export = written.home / "network.onnx"
        export.write_bytes(b"a network")
        finish(written, trial, 0.5, files=[*_weights(written, candidate), ("export.onnx", export)])
    ledger.end_stage(stage, "finished")
    for row in written.catalog.trials(stage_id=stage):
        ledger.tested(row.id, {"accuracy": row.values["accuracy"] - 0.01})


def _weights(written: Written, candidate: dict[str, Any]) -> list[tuple[str, Path]]:
    import torch

    from orchestrate.core.training.checkpoint import save_weights

    torch.manual_seed(0)
    network = Perceptrons().build(Candidate(candidate), Shape((1, 8, 8), 10))
    path = written.home / f"weights-{candidate['width']}.safetensors"
    save_weights(network, path)
    return [("weights", path)]


def end(written: Written, state: str = "finished", reason: str = "") -> Path:
    """Report and end the job, as the driver does."""
    folder = written.home / "reports" / written.job_id
    path, files = write_report(written.catalog, written.job_id, folder, state=state, reason=reason)
    written.ledger.add_artifacts(files)
    written.ledger.end_job(state, reason)
    written.ledger.release()
    return path


def write_all(catalog: Catalog, home: Path, **extra: Any) -> Written:
    """The whole job."""
    written = begin(catalog, home, **extra)
    write_supernet(written)
    write_search(written)
    write_deploy(written)
    end(written)
    return written
