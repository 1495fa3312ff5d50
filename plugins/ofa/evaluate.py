"""Scores sub-nets with the weights that they inherit from a supernet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from ...core import Evaluation, Program, SearchSpace, Task, TrialContext
from . import cost
from .base import OnceForAll
from .options import EvaluateOptions, check_space
from .predict import PREDICTOR
from .profile import LATENCIES
from .train import SUPERNET

if TYPE_CHECKING:
    from .latency import LatencyTable
    from .predictor import Predictor
    from .scoring import Images
    from .supernet import Supernet


class EvaluateSubnet(Program[EvaluateOptions]):
    """Cut sub-nets out, re-calibrate BatchNorm on training images, and score them on validation images.

    Metrics: `accuracy` (0 to 1) and `loss`, or `accuracy` alone as a predictor says; `macs`,
    `parameters`, `peak_memory` (bytes of activations); `latency_ms`, with a table. Candidates that
    come in one launch share the work of equal layers.
    """

    name: ClassVar[str] = "ofa-evaluate"
    summary: ClassVar[str] = "score sub-nets with weights inherited from a supernet"
    batch: ClassVar[int] = 100
    needs_network: ClassVar[bool] = True

    def check(self, space: SearchSpace, task: Task) -> None:
        check_space(self.name, space, task)

    def run(self, trial: TrialContext) -> Evaluation:
        for result in self.run_batch([trial]):
            if isinstance(result, Exception):
                raise result
            return result
        raise AssertionError

    def run_batch(self, trials: Sequence[TrialContext]) -> Iterable[Evaluation | Exception]:
        first = trials[0]
        space = check_space(self.name, first.space, first.task)
        shape = first.task.shape()
        table = self._table(first)
        for trial, scores in zip(trials, self._scores(trials, space), strict=True):
            plan = space.plan(trial.candidate, shape)
            metrics = {
                **scores,
                "macs": float(cost.macs(plan)),
                "parameters": float(cost.parameters(plan)),
                "peak_memory": float(cost.peak_memory(plan)),
            }
            if table is not None:
                metrics["latency_ms"] = table.predict(plan)
            yield Evaluation(metrics)

    def _scores(self, trials: Sequence[TrialContext], space: OnceForAll) -> list[dict[str, float]]:
        from .scoring import score_many

        first, candidates = trials[0], [trial.candidate for trial in trials]
        if self.options.predictor is not None:
            predictor = _predictor(first, space, self.options.predictor)
            return [{"accuracy": value} for value in predictor.predict(candidates)]
        supernet = supernet_of(first, space, self.options.supernet)
        images = self._images(first)
        options = self.options
        scores = score_many(supernet, candidates, images, calibrate=options.calibrate, memory=options.memory)
        return [score.metrics for score in scores]

    def _images(self, trial: TrialContext) -> Images:
        from .scoring import Images

        options = self.options
        return Images.of(
            trial.task,
            trial.device,
            calibration=options.calibration_images,
            calibration_batch=options.calibration_batch,
            validation=options.validation_images,
        )

    def _table(self, trial: TrialContext) -> LatencyTable | None:
        if self.options.latency is None:
            return None
        from .latency import LatencyTable

        return LatencyTable.read(trial.artifact(LATENCIES, self.options.latency))


def supernet_of(trial: TrialContext, space: OnceForAll, stage: str) -> Supernet:
    """The supernet that an earlier stage trained; the last one is kept for the process's next launches."""
    from .supernet import load_supernet

    path, shape = trial.artifact(SUPERNET, stage), trial.task.shape()
    key = (path, path.stat().st_mtime_ns, type(space), space.options, shape, str(trial.device))
    if key not in _LOADED:
        _LOADED.clear()
        _LOADED[key] = load_supernet(space, shape, path, trial.device).eval()
    return _LOADED[key]


_LOADED: dict[object, Supernet] = {}


def _predictor(trial: TrialContext, space: OnceForAll, stage: str) -> Predictor:
    from .predictor import Predictor

    return Predictor.read(trial.artifact(PREDICTOR, stage), space, trial.task.shape())
