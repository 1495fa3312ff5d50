"""The class that Tune runs on workers: it runs a program, one report a step.

The program runs in a greenlet on the actor's own thread. `report` leaves `step()`, the next `step()`
resumes it: no second thread, so torch keeps one pool of threads, and an early stop unwinds the program
where it stands.
"""

# Ray's own annotations are partial.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import contextvars
import json
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import greenlet
from ray import tune

from ..core.errors import LostError, TrialPruned
from ..core.job import Job, Stage, stopped_by
from ..core.parallel import CodedStrategy, CollectiveStrategy
from ..core.program import Evaluation
from .runtime import Remit
from .trial import Json, TrialOrder, WorkerTrial, compared_value, conclude, describe
from .workers import Ranks, RayWorkerGroup

KEY = "__launch__"  # the only key in a Tune config
REPORTS = "__reports__"  # JSON text: the reports of this step
OUTCOME = "__outcome__"  # JSON text: the conclusions, only in a launch's last result
SCORE, STEP = "score", "step"  # what early stopping compares, and when

COALESCE_SECONDS = 0.1  # reports in quicker succession travel together, where nothing waits for them

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Payload:
    """A launch on its way: opaque to Tune, which would copy, flatten and print a plain dict."""

    number: int
    body: bytes
    """JSON: the remit and the trials' orders."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Payload:
        return self

    def __str__(self) -> str:
        return str(self.number)

    @classmethod
    def pack(cls, number: int, remit: Json, orders: Sequence[Json]) -> Payload:
        """Make a payload."""
        return cls(number, json.dumps({"remit": remit, "orders": list(orders)}).encode())


class ProgramTrainable(tune.Trainable):
    """Runs launches, one after another, in one worker process."""

    _program: Any = None
    _group: Ranks | RayWorkerGroup | None = None

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first launch."""
        self._thread = threading.get_ident()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next launch in the same process."""
        self.unwind()
        self._begin(new_config)
        return True

    def cleanup(self) -> None:
        """Leave nothing behind."""
        self.unwind()
        self._drop_group()

    def step(self) -> dict[str, Any]:
        """Run the program up to its next report, or its end."""
        if self._program is None:
            self._program = greenlet.greenlet(self._run)
            self._program.gr_context = contextvars.copy_context()
        self._program.parent = greenlet.getcurrent()
        result: dict[str, Any] = self._program.switch()
        if OUTCOME in result:
            self._program = None
        return result

    def unwind(self) -> bool:
        """End a program that was stopped early, so that its `finally` blocks run now."""
        program, self._program = self._program, None
        if program is not None and program:
            program.parent = greenlet.getcurrent()
            try:
                program.throw(TrialPruned())
            except Exception:
                log.exception("a program that was stopped early failed while it unwound")
            self._drop_group()  # its other ranks may stand in the middle of a collective
        return True

    def get_auto_filled_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Tune's own metrics, less the echo of the whole config."""
        filled = super().get_auto_filled_metrics(*args, **kwargs)
        filled.pop("config", None)
        return filled

    def _begin(self, config: dict[str, Any]) -> None:
        body = json.loads(config[KEY].body)
        self._remit = Remit.of(body["remit"])
        self._orders = [TrialOrder(**order) for order in body["orders"]]
        self._program = None
        self._reports: list[Json] = []
        self._left_at = 0.0

    # Inside the greenlet --------------------------------------------------------------------------

    def _run(self) -> dict[str, Any]:
        try:
            conclusions = list(self._conclusions())
        except TrialPruned:
            return {}
        outcome = {"conclusions": conclusions, "node": f"{os.uname().nodename}:{os.getpid()}"}
        return {REPORTS: json.dumps(self._reports), OUTCOME: json.dumps(outcome), "done": True}

    def _conclusions(self) -> Iterator[Json]:
        try:
            job = self._remit.job()
            stage = self._remit.stage_of(job)
            group = self._join_group(stage)
        except Exception as error:  # noqa: BLE001 - a worker that can't even begin says why, trial by trial
            for order in self._orders:
                yield {
                    "trial_id": order.trial_id,
                    "state": "failed",
                    "error": describe(error),
                    "seconds": 0.0,
                }
            return
        trials: list[WorkerTrial] = []
        for order in self._orders:
            trial = self._trial(order, job, stage, group)
            if order.served is None:
                trials.append(trial)
            else:
                yield conclude(trial, Evaluation(order.served), stage, 0.0)
        if not trials:
            return
        if len(trials) == 1:
            yield self._one(trials[0], stage)
            return
        begun = time.perf_counter()
        seed_all(trials[0].seed)
        try:
            for trial, result in zip(trials, stage.program.run_batch(trials), strict=True):
                now = time.perf_counter()
                yield conclude(trial, result, stage, now - begun)
                begun = time.perf_counter()
        except Exception as error:  # noqa: BLE001 - a batch that breaks off fails the trials it didn't answer
            log.warning("run_batch broke off: %s", error)

    def _one(self, trial: WorkerTrial, stage: Stage) -> Json:
        begun = time.perf_counter()
        seed_all(trial.seed)
        ranks = self._group if isinstance(self._group, Ranks) else None
        if ranks is not None:
            ranks.start(self._remit, trial.order)
        try:
            result: Any = stage.program.run(trial)
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises is that trial's result
            result = error
        seconds = time.perf_counter() - begun
        if ranks is not None and (broken := ranks.join(failed=isinstance(result, Exception))):
            self._drop_group()
            if isinstance(broken, LostError):
                return {
                    "trial_id": trial.order.trial_id,
                    "state": "lost",
                    "error": describe(broken),
                    "seconds": seconds,
                }
            result = broken
        return conclude(trial, result, stage, seconds)

    def _trial(self, order: TrialOrder, job: Job, stage: Stage, group: Any) -> WorkerTrial:
        score = _score(stage, order) if stage.spec.early_stopping else None
        place = self._remit.place(group)
        return WorkerTrial(
            order,
            stage,
            self._remit.task(job),
            job.registry,
            place,
            lambda report: self._publish(report, score),
        )

    def _publish(self, report: Json, score: Callable[[Mapping[str, float]], float] | None) -> None:
        if threading.get_ident() != self._thread:
            raise RuntimeError("report() must be called on the thread that runs the program")
        self._reports.append(report)
        if score is None and time.monotonic() - self._left_at < COALESCE_SECONDS:
            return
        result: dict[str, Any] = {REPORTS: json.dumps(self._reports), STEP: report["step"]}
        if score is not None:
            result[SCORE] = score(report["metrics"])
        self._reports = []
        current = greenlet.getcurrent()
        assert current.parent is not None
        current.parent.switch(result)
        self._left_at = time.monotonic()

    # Several workers ------------------------------------------------------------------------------

    def _join_group(self, stage: Stage) -> Any:
        if stage.strategy is None or stage.spec.workers is None:
            return None
        if self._group is None:
            count, resources = stage.spec.workers.count, stage.resources
            if isinstance(stage.strategy, CollectiveStrategy):
                self._group = Ranks(count, resources.cpu, resources.gpu)
            else:
                assert isinstance(stage.strategy, CodedStrategy)
                self._group = RayWorkerGroup(count, resources.cpu, resources.gpu)
        return self._group.collective if isinstance(self._group, Ranks) else self._group

    def _drop_group(self) -> None:
        group, self._group = self._group, None
        if group is not None:
            group.close()


def _score(stage: Stage, order: TrialOrder) -> Callable[[Mapping[str, float]], float]:
    """What early stopping compares, of a report's metrics."""

    def score(metrics: Mapping[str, float]) -> float:
        value = compared_value(stage, metrics, order.values)
        if value is None:
            goal = stage.goals[stopped_by(stage)].name
            raise KeyError(f"early stopping compares {goal!r}, which this report lacks: {metrics}")
        return value

    return score


def seed_all(seed: int) -> None:
    """Seed the global generators that a program might draw from."""
    random.seed(seed)
    if "numpy" in sys.modules:
        import numpy as np

        np.random.seed(seed % 2**32)  # noqa: NPY002 - for programs that draw from it
    if "torch" in sys.modules:
        import torch

        torch.manual_seed(seed)
