"""Serves a constraint from a finished job: search, re-measure, extract, prove, export."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from ...core import Candidate, SpecError
from ...core.errors import near_misses
from ...core.results import JobResults
from .base import OnceForAll
from .formats import check_formats
from .options import Format, is_once_for_all
from .plan import Plan
from .predict import PREDICTOR
from .profile import LATENCIES
from .search import CostModel, Costs, Limits, check_limits, search
from .train import SUPERNET, TrainSupernet

MEASURED_GENERATIONS, PREDICTED_GENERATIONS = 4, 30


@dataclass(frozen=True)
class Remeasured:
    """One of the search's best: what it was ranked by, and what it scores."""

    candidate: Candidate
    fitness: float
    accuracy: float
    costs: Costs


@dataclass(frozen=True)
class Deployment:
    """What was found and written."""

    candidate: Candidate
    accuracy: float
    costs: Costs
    searched_on: str
    """`predicted` or `measured` accuracy."""
    scored: int
    regret: float
    """Accuracy of the best re-measured candidate over that of the search's first."""
    remeasured: Sequence[Remeasured]
    proof: Mapping[str, Any]
    files: Mapping[str, Path]
    seconds: float
    whole_latency_ms: float | None = None
    """A pass of the whole network, timed here, where the search's latencies were timed here."""


def serve(
    results: JobResults,
    limits: Limits,
    *,
    measured: bool = False,
    latency_here: bool = False,
    top: int = 5,
    population: int = 100,
    generations: int | None = None,
    formats: Sequence[str] = ("safetensors",),
    output: Path | None = None,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> Deployment:
    """Find, cut out and write the network for `limits`.

    Args:
        results: the finished job.
        limits: what the network may cost.
        measured: search on measured accuracy, also where the job has a predictor.
        latency_here: time layers on this machine (batch 1, one thread) instead of reading the job's table.
        top: candidates to measure again.
        population: candidates in a generation.
        generations: generations; by default few with measured accuracy, more with a predictor.
        formats: to export.
        output: folder for the files; without, none is kept.
        seed: of the search.
        progress: told of each generation's number and the best fitness so far.

    Raises:
        SpecError: the job has no supernet; a format is unknown or can't be written here; a limit on
            latency without a table. `InfeasibleError`: no network keeps the limits.
        ArtifactError: a file of the job is missing or has changed.
    """
    begun = time.perf_counter()
    known = _formats(formats)
    stage, space, path = _trained(results)
    shape = results.job.task.shape()
    model = CostModel(space, shape, _latency(results, space, latency_here))
    check_limits(model, limits)  # before anything is loaded: an answer at once

    import torch

    from .latency import Bench
    from .predictor import Predictor
    from .scoring import Images, score_many
    from .specialize import extract, write
    from .supernet import load_supernet

    supernet = load_supernet(space, shape, path).eval()
    options = stage.options
    images = Images.of(
        results.job.task,
        torch.device("cpu"),
        calibration=options.calibration_images,
        calibration_batch=options.calibration_batch,
        validation=options.validation_images,
    )

    def measure(candidates: Sequence[Candidate]) -> list[float]:
        return [score.accuracy for score in score_many(supernet, candidates, images, memory=options.memory)]

    learned = None if measured else _artifact(results, PREDICTOR)
    fitness = measure if learned is None else Predictor.read(learned, space, shape).predict
    if generations is None:
        generations = MEASURED_GENERATIONS if learned is None else PREDICTED_GENERATIONS
    found = search(
        model,
        fitness,
        limits,
        population=population,
        generations=generations,
        seed=seed,
        progress=progress,
    )
    best = found.ranked[:top]
    again = [
        Remeasured(candidate, value, accuracy, model.of(candidate))
        for (candidate, value), accuracy in zip(best, measure([one for one, _ in best]), strict=True)
    ]
    chosen = max(again, key=lambda one: one.accuracy)
    network, proof = extract(supernet, chosen.candidate, images)
    if output is None:
        with tempfile.TemporaryDirectory(prefix="orchestrate-") as folder:
            _, proof["exports"] = write(network, known, Path(folder), images)
            files: dict[str, Path] = {}
    else:
        files, proof["exports"] = write(network, known, output, images)
        files["proof.json"] = output / "proof.json"
        files["proof.json"].write_text(json.dumps({"job": results.id, **proof}, indent=1), encoding="utf-8")
    return Deployment(
        candidate=chosen.candidate,
        accuracy=chosen.accuracy,
        costs=chosen.costs,
        searched_on="measured" if learned is None else "predicted",
        scored=len(found.ranked),
        regret=chosen.accuracy - again[0].accuracy,
        remeasured=again,
        proof=proof,
        files=files,
        seconds=time.perf_counter() - begun,
        whole_latency_ms=Bench().network(network, network.plan).median if latency_here else None,
    )


def _formats(names: Sequence[str]) -> tuple[Format, ...]:
    known = cast("tuple[Format, ...]", get_args(Format))
    for name in names:
        if name not in known:
            raise SpecError(f"--export {name}: no such format. {near_misses(name, known)}")
    wanted: set[object] = set(names)
    formats = cast("tuple[Format, ...]", tuple(one for one in known if one in wanted))
    check_formats(formats)
    return formats


def _trained(results: JobResults) -> tuple[TrainSupernet, OnceForAll, Path]:
    """The job's last supernet: the program that trained it, its space and its file."""
    for stage in reversed(results.job.stages):
        if isinstance(stage.program, TrainSupernet) and is_once_for_all(stage.space):
            path = results.artifact(SUPERNET, stage.spec.name)
            if path is not None:
                return stage.program, stage.space, path
    raise SpecError(
        f"job {results.id} has no trained supernet: it needs a finished stage with program 'ofa-train'"
    )


def _artifact(results: JobResults, kind: str) -> Path | None:
    """The last stage's artifact of that kind."""
    found = (results.artifact(kind, stage.spec.name) for stage in reversed(results.job.stages))
    return next((path for path in found if path is not None), None)


def _latency(results: JobResults, space: OnceForAll, here: bool) -> Callable[[Plan], float] | None:
    """Milliseconds of a plan: timed here, by the job's table, or not known."""
    path = None if here else _artifact(results, LATENCIES)
    if path is None and not here:
        return None
    from .latency import LatencyTable, LiveTable

    return (LiveTable(norm=space.norm) if path is None else LatencyTable.read(path)).predict
