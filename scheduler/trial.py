"""The worker's side of one trial: what a program sees of the world, and what it leaves behind.

Knows nothing of Ray: reports leave through a function, files through the artifact store.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.candidate import Candidate
from ..core.crash import crash_point
from ..core.errors import ArtifactError, LostError, TrialError, TrialPruned
from ..core.groups import Collective
from ..core.hookspecs import Schedule
from ..core.job import Stage, stopped_by
from ..core.objective import CombinedObjective, MeasuredObjective, ReportedObjective, StaticObjective
from ..core.parallel import CollectiveStrategy, Learner, RankSession
from ..core.program import Evaluation, TrialContext
from ..core.registry import Registry
from ..core.space import SearchSpace
from ..core.task import Task
from ..storage.artifacts import ArtifactStore, NewArtifact

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..core.training.shards import ShardedCheckpoint

Json = dict[str, Any]


@dataclass(frozen=True)
class TrialOrder:
    """One trial as the driver orders it: JSON data, so that it can cross to any worker."""

    trial_id: int
    number: int
    candidate: Json
    seed: int
    attempt: int
    values: Mapping[str, float] = field(default_factory=dict[str, float])
    """The static objectives, known already."""
    artifacts: Mapping[str, Mapping[str, tuple[str, str]]] = field(
        default_factory=dict[str, Mapping[str, tuple[str, str]]]
    )
    """By earlier stage ("" for the trial's own) and kind: URI and SHA-256."""
    served: Mapping[str, float] | None = None
    """Recalled metrics, where only the measured objectives are still to be made."""

    def data(self) -> Json:
        """As JSON data."""
        return asdict(self)


@dataclass(frozen=True)
class Place:
    """Where a trial runs: its files, device and group."""

    job_id: str
    store: ArtifactStore
    gpu: bool = False
    group: Collective | None = None


class WorkerTrial(TrialContext):
    """The `TrialContext` that programs get on a worker (or in the final scoring)."""

    def __init__(
        self,
        order: TrialOrder,
        stage: Stage,
        task: Task,
        registry: Registry,
        place: Place,
        publish: Callable[[Json], None],
        flush: Callable[[], None] = lambda: None,
    ) -> None:
        self.order = order
        self.number = order.number
        self.candidate = Candidate(order.candidate)
        self.space: SearchSpace = stage.space
        self.task = task
        self.seed = order.seed
        self.saved: list[NewArtifact] = []
        self.last: dict[str, float] = {}
        self.last_step: int | None = None
        self._stage = stage
        self._registry = registry
        self._place = place
        self._publish = publish
        self._flush = flush

    @property
    def speaks(self) -> bool:
        """Whether this rank reports and writes: rank 0, or the only one."""
        group = self._place.group
        return group is None or getattr(group, "rank", 0) == 0

    @cached_property
    def device(self) -> torch.device:  # type: ignore[override]
        import torch

        return torch.device("cuda" if self._place.gpu and torch.cuda.is_available() else "cpu")

    @property
    def figures(self) -> Mapping[str, float]:
        """What there is to tell of the workers that make its gradients."""
        if self.interleaver is not None:
            return self.interleaver.stream.metrics()
        return self.session.metrics() if self.session is not None and self.speaks else {}

    @cached_property
    def session(self) -> RankSession | None:
        """This rank's part in a collective strategy."""
        strategy, group = self._stage.strategy, self._place.group
        if not isinstance(strategy, CollectiveStrategy) or group is None:
            return None
        return strategy.open(group, self.seed)

    def report(self, metrics: Mapping[str, float], step: int) -> None:
        self.last, self.last_step = finite({**metrics, **self.figures}), int(step)
        if self.speaks:
            at = datetime.now(UTC).isoformat()
            self._publish({"number": self.number, "step": int(step), "metrics": self.last, "at": at})

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        if self.speaks:
            self._flush()  # an attempt that goes on from here doesn't report these steps again
        self._checkpoints.save(state, self.device)
        if self.speaks:
            crash_point("checkpoint")

    def restore(self) -> dict[str, Any] | None:
        return self._checkpoints.load()

    def save_artifact(self, kind: str, source: Path) -> None:
        if self.speaks:
            saved = self._place.store.put(
                source,
                self._place.job_id,
                self._stage.spec.name,
                self.number,
                kind,
                self.order.trial_id,
            )
            crash_point("artifact")
            self.saved = [*(kept for kept in self.saved if kept.kind != kind), saved]

    def artifact(self, kind: str, stage: str | None = None) -> Path:
        own = next((saved for saved in self.saved if saved.kind == kind), None)
        if stage is None and own is not None:
            return self._place.store.verify(own.uri, own.sha256)
        known = self.order.artifacts.get(stage or "", {})
        if kind not in known:
            where = f"stage {stage!r}" if stage else f"trial {self.number}"
            raise ArtifactError(
                f"{where} has no artifact {kind!r}; it has: {', '.join(sorted(known)) or 'none'}"
            )
        uri, sha256 = known[kind]
        return self._place.store.verify(uri, sha256)

    def schedule(self, name: str, total_steps: int, **options: Any) -> Schedule:
        return self._registry.schedule(name)(total_steps, **options)

    def gradient(self, learner: Learner, samples: Tensor) -> float:
        if self.session is not None:
            return self.session.gradient(learner, samples)
        return super().gradient(learner, samples)

    @property
    def rounds(self) -> Path:
        """Where this attempt's rounds are written down as they happen (see `GradientStream.keep`)."""
        return self._folder / f"rounds-{self.order.attempt}"

    @cached_property
    def _checkpoints(self) -> ShardedCheckpoint:
        from ..core.training.shards import ShardedCheckpoint

        return ShardedCheckpoint(self._folder, self.session, self._place.group, self.order.attempt)

    @cached_property
    def _folder(self) -> Path:
        return self._place.store.folder(self._place.job_id, self._stage.spec.name, self.number)


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics as floats.

    Raises:
        TrialError: one is NaN, infinite or no number: that is a failure, not a score.
    """
    checked: dict[str, float] = {}
    for name, value in metrics.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise TrialError(f"metric {name!r} is {value!r}, not a number") from None
        if not math.isfinite(number):
            raise TrialError(f"metric {name!r} is {number}: the trial diverged or divided by zero")
        checked[name] = number
    return checked


def conclude(
    trial: WorkerTrial, result: Evaluation | Exception | TrialPruned, stage: Stage, seconds: float
) -> Json:
    """Turn a program's result into the message that ends the trial: metrics and objective values, or
    the error. Measures the measured objectives.
    """
    if isinstance(result, TrialPruned):
        return {
            "trial_id": trial.order.trial_id,
            "state": "pruned",
            "reason": str(result),
            "metrics": trial.last,
            "steps": trial.last_step,
            "seconds": seconds,
        }
    if not isinstance(result, Exception):
        try:
            return _finished(trial, result, stage, seconds)
        except Exception as error:  # noqa: BLE001 - a wrong metric or a failing measurement is this trial's failure
            result = error
    return {
        "trial_id": trial.order.trial_id,
        "state": "lost" if isinstance(result, LostError) else "failed",
        "error": describe(result),
        "seconds": seconds,
    }


def _finished(trial: WorkerTrial, evaluation: Evaluation, stage: Stage, seconds: float) -> Json:
    metrics = finite({**evaluation.metrics, **trial.figures})
    begun = time.perf_counter()
    return {
        "trial_id": trial.order.trial_id,
        "state": "finished",
        "metrics": metrics,
        "values": _values(trial, evaluation, metrics, stage),
        "artifacts": [asdict(saved) for saved in trial.saved],
        "seconds": seconds,
        "measure_seconds": time.perf_counter() - begun,
    }


def _values(trial: WorkerTrial, evaluation: Evaluation, metrics: Json, stage: Stage) -> dict[str, float]:
    values = dict(trial.order.values)
    for goal, objective in zip(stage.goals, stage.objectives, strict=True):
        if isinstance(objective, ReportedObjective):
            values[goal.name] = reported_value(objective.metric, metrics)
        elif isinstance(objective, MeasuredObjective):
            model = evaluation.model if evaluation.model is not None else trial.build()
            measured = objective.measure(model, trial.task.shape(), trial.device)
            values.update(finite({goal.name: measured}))
        else:
            assert isinstance(objective, StaticObjective | CombinedObjective)
    return finite(stage.completed(values))


def reported_values(
    stage: Stage, metrics: Mapping[str, float], known: Mapping[str, float]
) -> dict[str, float]:
    """The objective values that a report tells, and those that follow from it and what is `known`."""
    told = {
        goal.name: metrics[objective.metric]
        for goal, objective in zip(stage.goals, stage.objectives, strict=True)
        if isinstance(objective, ReportedObjective) and objective.metric in metrics
    }
    return stage.completed({**known, **told})


def compared_value(stage: Stage, metrics: Mapping[str, float], known: Mapping[str, float]) -> float | None:
    """What early stopping compares, of a report and of what is `known`. None: the report lacks it."""
    return reported_values(stage, metrics, known).get(stage.goals[stopped_by(stage)].name)


def reported_value(metric: str, metrics: Mapping[str, float]) -> float:
    """The objective's metric.

    Raises:
        TrialError: the program didn't report it.
    """
    if metric not in metrics:
        raise TrialError(
            f"the objective wants the metric {metric!r}, but the program reported "
            f"{', '.join(sorted(metrics)) or 'none'}: report it, or name one of these in `objectives`"
        )
    return metrics[metric]


def describe(error: BaseException) -> Json:
    """An exception as data: type, message, traceback, and the innermost frame of the user's code."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
        "frame": f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "",
    }
