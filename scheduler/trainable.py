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
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import greenlet
from ray import tune

from ..core.errors import LostError, TrialPruned
from ..core.interleave import Interleaver
from ..core.job import Job, Stage, stopped_by
from ..core.parallel import CodedStrategy, CollectiveStrategy
from ..core.program import Evaluation
from ..core.seeds import seed_all
from .ranks import Ranks
from .runtime import Remit
from .trial import Json, TrialOrder, WorkerTrial, compared_value, conclude, describe
from .workers import RayWorkerGroup

KEY = "__launch__"  # the only key in a Tune config
REPORTS = "__reports__"  # JSON text: the reports of this step
OUTCOME = "__outcome__"  # JSON text: the conclusions, only in a launch's last result
SCORE, STEP = "score", "step"  # what early stopping compares, and when

COALESCE_SECONDS = 0.1  # reports in quicker succession travel together, where nothing waits for them

Outcome: TypeAlias = Evaluation | Exception | TrialPruned

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
    _speaker: Any = None  # the greenlet that reported last, and goes on first
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
        self._outside = self._program.parent = greenlet.getcurrent()
        result: dict[str, Any] = (self._speaker or self._program).switch()
        if OUTCOME in result:
            self._program = self._speaker = None
        return result

    def unwind(self) -> bool:
        """End a program that was stopped early, so that its `finally` blocks run now."""
        program, self._program, self._speaker = self._program, None, None
        if program is not None and program:
            program.parent = greenlet.getcurrent()
            try:
                program.throw(TrialPruned())
            except Exception:
                log.exception("a program that was stopped early failed while it unwound")
            self._drop_group()  # its other ranks may stand in the middle of a collective
        return True

    def stop_member(self, number: int, reason: str) -> None:
        """Let one trial of a launch end at the report that it stands at."""
        self._stops[number] = reason

    def get_auto_filled_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Tune's own metrics, less the echo of the whole config."""
        filled = super().get_auto_filled_metrics(*args, **kwargs)
        filled.pop("config", None)
        return filled

    def _begin(self, config: dict[str, Any]) -> None:
        body = json.loads(config[KEY].body)
        self._remit = Remit.of(body["remit"])
        self._orders = [TrialOrder(**order) for order in body["orders"]]
        self._program = self._speaker = None
        self._reports: list[Json] = []
        self._stops: dict[int, str] = {}
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
            made = [self._trial(order, job, stage, group) for order in self._orders]
            interleaver = self._interleave([one for one in made if one.order.served is None], stage)
        except Exception as error:  # noqa: BLE001 - a worker that can't even begin says why, trial by trial
            self._drop_group()
            for order in self._orders:
                yield {
                    "trial_id": order.trial_id,
                    "state": "lost" if isinstance(error, LostError) else "failed",
                    "error": describe(error),
                    "seconds": 0.0,
                }
            return
        trials: list[WorkerTrial] = []
        for trial in made:
            if trial.order.served is None:
                trials.append(trial)
            else:
                yield conclude(trial, Evaluation(trial.order.served), stage, 0.0)
        if not trials:
            return
        if len(trials) == 1:
            yield self._one(trials[0], stage)
            return
        begun = time.perf_counter()
        seed_all(trials[0].seed)
        try:
            results, each = stage.program.run_batch(trials), None
            if interleaver is not None:
                results = self._by_turns(trials, results)
                each = (time.perf_counter() - begun) / len(trials)
            for trial, result in zip(trials, results, strict=True):
                now = time.perf_counter()
                yield conclude(trial, result, stage, now - begun if each is None else each)
                begun = time.perf_counter()
        except TrialPruned:
            raise
        except Exception as error:  # noqa: BLE001 - a batch that breaks off fails the trials it didn't answer
            log.warning("run_batch broke off: %s", error)

    def _interleave(self, trials: Sequence[WorkerTrial], stage: Stage) -> Interleaver | None:
        """Let trials share the group of a coded strategy."""
        if not isinstance(self._group, RayWorkerGroup) or not trials:
            return None
        assert isinstance(stage.strategy, CodedStrategy)
        stream = stage.strategy.open(self._group, len(trials))
        stream.keep([trial.rounds for trial in trials])
        interleaver = Interleaver(stream)
        for trial in trials:
            trial.interleaver = interleaver
        return interleaver

    def _by_turns(self, trials: Sequence[WorkerTrial], results: Iterable[Outcome]) -> Sequence[Outcome]:
        """Run trials that share workers. When the workers can't go on, all of them are lost."""
        try:
            results = list(results)
        except LostError as error:
            self._drop_group()
            return [error] * len(trials)
        keep_records(trials)
        return results

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
            if isinstance(error, LostError):
                self._drop_group()
        seconds = time.perf_counter() - begun
        if ranks is not None and (broken := ranks.join(failed=isinstance(result, Exception))):
            self._drop_group()
            result = broken
        if not isinstance(result, LostError):
            keep_records([trial])
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
            self._flush,
        )

    def _publish(self, report: Json, score: Callable[[Mapping[str, float]], float] | None) -> None:
        if threading.get_ident() != self._thread:
            raise RuntimeError("report() must be called on the thread that runs the program")
        self._reports.append(report)
        if score is None and time.monotonic() - self._left_at < COALESCE_SECONDS:
            return
        self._leave({} if score is None else {SCORE: score(report["metrics"])})
        if report["number"] in self._stops:
            raise TrialPruned(self._stops.pop(report["number"]))

    def _flush(self) -> None:
        """Send what waits, and go on when the driver has written it down."""
        if threading.get_ident() != self._thread:
            raise RuntimeError("checkpoint() must be called on the thread that runs the program")
        if self._reports:
            self._leave({})

    def _leave(self, result: dict[str, Any]) -> None:
        result |= {REPORTS: json.dumps(self._reports), STEP: self._reports[-1]["step"]}
        self._reports = []
        self._speaker = greenlet.getcurrent()  # maybe a member's, below the program's own
        self._outside.switch(result)
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
                self._group = RayWorkerGroup(
                    count, resources.cpu, resources.gpu, stage.spec.workers.processes
                )
        return self._group.collective if isinstance(self._group, Ranks) else None

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


def keep_records(trials: Sequence[WorkerTrial]) -> None:
    """Keep what a parallel strategy tells of its work, with each trial that it served."""
    interleaver = trials[0].interleaver
    source = interleaver.stream if interleaver is not None else trials[0].session
    if source is None:
        return
    with tempfile.TemporaryDirectory(prefix="orchestrate-records-") as folder:
        for kind, path in source.artifacts(Path(folder)).items():
            for trial in trials:
                trial.save_artifact(kind, path)
    for trial in trials:
        shutil.rmtree(trial.rounds, ignore_errors=True)  # the artifact has it all
