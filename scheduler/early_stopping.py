"""Tune's rules of early stopping, which decide by what the catalog knows of a trial."""

# Ray's own annotations are partial.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler

from ..core.job import Stage, stopped_by
from .trainable import SCORE, STEP


@dataclass(frozen=True)
class _Known:
    """A trial as a rule records it."""

    trial_id: int


class EarlyStopping(ABC):
    """What both rules share: a trial may be launched several times. It is known by its id in the catalog, so
    that one that goes on from a checkpoint keeps its places, under another driver, too.
    """

    _time_attr: str
    _metric: str

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._known: dict[str, _Known] = {}  # by Tune's id of the launch
        self._stopped: dict[int, tuple[int, float]] = {}  # by the catalog's id: step and score

    def replay(self, reports: Iterable[tuple[int, int, float]]) -> None:
        """Decide again on what a former driver heard: (trial id, step, score), in order."""
        for report in reports:
            self.stops(*report)

    def launched(self, tune_id: str, trial_id: int) -> tuple[int, float] | None:
        """A trial is launched. Gives the step and score at which it is to stop, if it has passed there."""
        self._known[tune_id] = _Known(trial_id)
        return self._stopped.get(trial_id)

    def stops(self, trial_id: int, step: int, score: float) -> bool:
        """Whether a trial is to stop at this report, or was to stop before."""
        if trial_id not in self._stopped and self._decides(_Known(trial_id), step, score):
            self._stopped[trial_id] = (step, score)
        return trial_id in self._stopped

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if self._time_attr not in result or self._metric not in result:
            return TrialScheduler.CONTINUE
        stops = self.stops(self._known[trial.trial_id].trial_id, result[STEP], result[SCORE])
        return TrialScheduler.STOP if stops else TrialScheduler.CONTINUE

    def on_trial_complete(  # noqa: B027
        self, tune_controller: Any, trial: Any, result: dict[str, Any]
    ) -> None:
        """Nothing: each of its results was decided on."""

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:  # noqa: B027
        """Nothing, as above."""

    @abstractmethod
    def _decides(self, known: _Known, step: int, score: float) -> bool:
        """Hear a report of a trial that wasn't stopped. Returns whether it stops."""


class Asha(EarlyStopping, AsyncHyperBandScheduler):
    """Asynchronous successive halving."""

    def _decides(self, known: _Known, step: int, score: float) -> bool:
        [bracket] = self._brackets
        return bracket.on_result(known, step, self._metric_op * score) == self.STOP  # type: ignore[arg-type]


class Median(EarlyStopping, MedianStoppingRule):
    """The median rule. Tune's pauses trials while it knows too few, which needs Tune's own checkpoints."""

    def _decides(self, known: _Known, step: int, score: float) -> bool:
        heard: list[Any] = self._results[known]
        if heard and heard[-1][STEP] >= step:
            return False  # an attempt that starts again reports again
        result = {STEP: step, SCORE: score}
        return MedianStoppingRule.on_trial_result(self, None, known, result) == self.STOP  # type: ignore[arg-type]

    def _on_insufficient_samples(self, tune_controller: Any, trial: Any, time: float) -> str:
        return self.CONTINUE


def rule_of(stage: Stage) -> Asha | Median | None:
    """Make the rule that a stage asks for."""
    early = stage.spec.early_stopping
    if early is None:
        return None
    direction = stage.goals[stopped_by(stage)].direction
    common: Any = {
        "time_attr": STEP,
        "metric": SCORE,
        "mode": "min" if direction == "minimize" else "max",
    }
    if early.name == "median":
        return Median(grace_period=early.grace_steps, min_samples_required=early.min_trials, **common)
    return Asha(
        max_t=early.max_steps,
        grace_period=early.grace_steps,
        reduction_factor=early.reduction_factor,
        stop_last_trials=False,  # else the best, at their last step, would count as stopped
        **common,  # pyright: ignore[reportArgumentType]
    )
