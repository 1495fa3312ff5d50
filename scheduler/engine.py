"""Runs one stage on Ray Tune.

Tune is the engine, our catalog the truth: nothing of Tune's own state is saved or restored. The loop
below is Tune's controller with six of its habits changed, each named where it is; they rest on names
that Tune doesn't promise, so `tests/scheduler/test_engine.py` checks them and pyproject pins the series.
"""

# Ray's own annotations are partial.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

import ray
from ray import tune
from ray.tune.execution.class_cache import _ActorClassCache  # pyright: ignore[reportPrivateUsage]
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Experiment
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher, SearchGenerator
from ray.tune.utils.object_cache import _ObjectCache  # pyright: ignore[reportPrivateUsage]

from ..core.crash import crash_point
from ..core.job import Stage
from ..core.parallel import CodedStrategy
from .cluster import changed_environment, processes_of, workers_of
from .early_stopping import EarlyStopping, rule_of
from .runtime import Remit
from .trainable import KEY, OUTCOME, REPORTS, SCORE, STEP, Payload, ProgramTrainable
from .trial import Json, compared_value

# Read by Tune at call time, in the driver.
TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a failed trial ends without the metric
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "1e9",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
LIVE_ACTORS = "_live_actors_to_ray_actors_resources"  # of Tune's actor manager: (actor, resources) pairs
IDLE_SECONDS = 0.02  # how long the loop sleeps when nothing runs and nothing can be asked
PATIENCE_SECONDS = 2.0  # how long a launch waits for resources of its own while an idle actor exists


class Driver(Protocol):
    """What decides (`StageRun`). Every call comes on the thread that called `run_stage`."""

    def ask(self) -> tuple[int, list[Json]] | None: ...
    def exhausted(self) -> bool: ...
    def stopping(self) -> bool: ...
    def started(self, number: int) -> None: ...
    def reported(self, number: int, reports: Sequence[Json]) -> None: ...
    def ended(self, number: int, conclusions: Sequence[Json], node: str) -> None: ...
    def pruned(self, number: int, reason: str) -> None: ...
    def lost(self, number: int, error: BaseException | str | None) -> None: ...
    def reported_before(self) -> Sequence[tuple[int, int, float]]: ...


def run_stage(driver: Driver, stage: Stage, remit: Remit, concurrency: int) -> None:
    """Run the stage until the driver is exhausted or stops. Ray must be connected.

    An exception in the driver stops the stage, kills what runs, and is raised here.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    bundle = {"CPU": stage.resources.cpu, "GPU": stage.resources.gpu}
    bundles = [{name: amount * processes_of(stage) for name, amount in bundle.items()}] * workers_of(stage)
    bundles = [{name: amount for name, amount in bundle.items() if amount} for bundle in bundles]
    guard = _Guard(driver)
    with (
        tempfile.TemporaryDirectory(prefix="orchestrate-tune-") as folder,
        changed_environment(TUNE_ENVIRONMENT),
    ):
        experiment = Experiment(
            "stage",
            ProgramTrainable,
            num_samples=10**9,
            storage_path=folder,
            resources_per_trial=tune.PlacementGroupFactory(
                [bundle or {"CPU": 0} for bundle in bundles],
                # A node that is slow, or dies, should hold few of a coded group's workers.
                strategy="SPREAD" if isinstance(stage.strategy, CodedStrategy) else "PACK",
            ),
            max_failures=0,
            trial_dirname_creator=lambda trial: str(trial.config[KEY].number),
        )
        rule, watch = rule_of(stage), _Watch(guard)
        if rule is not None:
            rule.replay(driver.reported_before())
        members = _Members(stage, rule, watch) if rule is not None and stage.batch > 1 else None
        searcher = _Searcher(guard, remit, rule if members is None else None, members)
        search = SearchGenerator(ConcurrencyLimiter(searcher, max_concurrent=concurrency))
        search.add_configurations([experiment])  # pyright: ignore[reportArgumentType]
        _Controller(
            guard,
            search_alg=search,
            scheduler=FIFOScheduler() if rule is None or members else rule,
            callbacks=[watch],
            reuse_actors=True,
            storage=experiment.storage,
        ).run()
    if guard.error is not None:
        raise guard.error


class _Searcher(Searcher):
    """Asks the driver. Nothing of it is saved."""

    def __init__(
        self, driver: Any, remit: Remit, rule: EarlyStopping | None, members: _Members | None
    ) -> None:
        super().__init__()
        self._driver = driver
        self._members = members
        self._remit = remit.data()
        self._rule = rule
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> Any:
        if self._driver.stopping():
            return Searcher.FINISHED
        while True:
            asked = self._driver.ask()
            if asked is None:
                return Searcher.FINISHED if self._driver.exhausted() else None
            number, orders = asked
            passed = self._rule and self._rule.launched(trial_id, orders[0]["trial_id"])
            if not passed:
                break
            self._prune(number, *passed)  # its driver died between the decision and the record of it
        self._numbers[trial_id] = number
        if self._members is not None:
            self._members.launched(orders)
        crash_point("launch")
        return {KEY: Payload.pack(number, self._remit, orders)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        reports = json.loads(result.get(REPORTS, "[]"))
        if reports:
            self._driver.reported(self._numbers[trial_id], reports)
            if self._members is not None:
                self._members.judge(trial_id, reports)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        number = self._numbers.pop(trial_id)
        crash_point("answer")
        if error:
            return  # the controller tells, with the exception
        result = result or {}
        # A launch's last result, its reports included, reaches only this method.
        if reports := json.loads(result.get(REPORTS, "[]")):
            self._driver.reported(number, reports)
        if OUTCOME in result:
            outcome = json.loads(result[OUTCOME])
            self._driver.ended(number, outcome["conclusions"], outcome["node"])
        elif not self._driver.stopping():  # else it is interrupted, which the driver knows itself
            self._prune(number, result[STEP], result[SCORE])

    def _prune(self, number: int, step: int, score: float) -> None:
        self._driver.pruned(number, f"stopped early at step {step}, score {score:g}")

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Save nothing: the driver's state is rows in the catalog."""


class _Watch(tune.Callback):
    """Tells the driver what starts, and unwinds what Tune stopped."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._actors: dict[str, Any] = {}

    def stop(self, trial_id: str, number: int, reason: str) -> None:
        """Stop one member of a launch at its last report."""
        self._actors[trial_id].stop_member.remote(number, reason)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._actors[trial.trial_id] = trial.temporary_state.ray_actor
        crash_point("sent")
        self._driver.started(trial.config[KEY].number)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        actor = self._actors.pop(trial.trial_id, None)
        if actor is not None and OUTCOME not in trial.last_result:
            actor.unwind.remote()  # runs before the reset or stop that Tune sends next, which may come late

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._actors.pop(trial.trial_id, None)


class _Members:
    """Stops members of a launch early, each by itself: Tune knows only the launch."""

    def __init__(self, stage: Stage, rule: EarlyStopping, watch: _Watch) -> None:
        self._stage = stage
        self._rule = rule
        self._watch = watch
        self._orders: dict[int, Json] = {}

    def launched(self, orders: Sequence[Json]) -> None:
        """Hear which trials a launch has."""
        self._orders.update({order["number"]: order for order in orders})

    def judge(self, tune_id: str, reports: Sequence[Json]) -> None:
        """Tell the launch which of those that reported are to stop. It hears before it goes on."""
        for report in reports:
            order, step = self._orders[report["number"]], report["step"]
            score = compared_value(self._stage, report["metrics"], order["values"])
            if score is not None and self._rule.stops(order["trial_id"], step, score):
                reason = f"stopped early at step {step}, score {score:g}"
                self._watch.stop(tune_id, report["number"], reason)


class _Guard:
    """The driver behind a fence: Tune would turn its exceptions into failed trials. The first one ends
    the stage and is raised from `run_stage`.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.error: Exception | None = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._driver, name)

        def call(*arguments: Any) -> Any:
            if self.error is None:
                try:
                    return method(*arguments)
                except Exception as error:  # noqa: BLE001 - raised again by run_stage
                    self.error = error
            return True if name in ("stopping", "exhausted") else None

        return call


class _KeepActors(_ObjectCache):
    """Keeps every idle actor until the stage ends, where Tune keeps one: all launches of a stage ask
    for the same resources.
    """

    def cache_object(self, key: Any, obj: Any) -> bool:
        self._cached_objects[key].append(obj)
        self._num_cached_objects += 1
        return True

    def flush_cached_objects(self, force_all: bool = False) -> Generator[Any, None, None]:
        if force_all:
            yield from super().flush_cached_objects(force_all=True)


class _Actors(_ActorClassCache):
    """Gives actors the environment that `connect` made, where Tune adds to it: Ray would then not use the
    processes that it has started in advance.
    """

    def get(self, trainable_cls: type[Any]) -> Any:
        if trainable_cls not in self._cache:
            self._cache[trainable_cls] = ray.remote(trainable_cls)
        return self._cache[trainable_cls]


class _Controller(TuneController):
    """Tune's loop without its snapshots, its sleep of a second when a searcher has nothing to give, its
    wait for busy actors at the end, and its habit to give a launch's starting actor up for an idle one
    (which ends with all short launches in one process).
    """

    def __init__(self, driver: Any, **options: Any) -> None:
        super().__init__(**options)
        self._driver = driver
        self._actor_cache = _KeepActors()
        self._class_cache = _Actors()
        self._requested: dict[Any, float] = {}

    def checkpoint(self, force: bool = False, wait: bool = False) -> None:
        """Save nothing."""

    def run(self) -> None:
        """Turn the loop until nothing is left or the driver stops."""
        try:
            while not self.is_finished() and not self._driver.stopping():
                self.step()
        except BaseException:
            self._kill()
            raise
        else:
            if self._driver.stopping():
                self._kill()
        finally:
            self.cleanup()

    def _update_trial_queue(self, blocking: bool = False, timeout: int = 600) -> bool:
        created = super()._update_trial_queue(blocking=False)
        if blocking and not created:
            time.sleep(IDLE_SECONDS)
        return created

    def _maybe_reuse_cached_actor(self, trial: Any) -> bool:
        own = self._trial_to_actor.get(trial)
        if own is not None and trial not in self._resetting_trials:
            since = self._requested.setdefault(own, time.monotonic())
            if self._actor_manager.is_actor_started(own) or time.monotonic() - since < PATIENCE_SECONDS:
                return False
        return super()._maybe_reuse_cached_actor(trial)

    def _process_trial_failure(self, trial: Any, exception: Any) -> None:
        # The death of a starting actor is told twice: by its task and by itself.
        over = trial.is_finished()
        super()._process_trial_failure(trial, exception)
        if not over:
            self._driver.lost(trial.config[KEY].number, exception)

    def _kill(self) -> None:
        # Tune would wait up to 15 s for an actor that is busy.
        for actor, _ in list(getattr(self._actor_manager, LIVE_ACTORS).values()):
            ray.kill(actor)
