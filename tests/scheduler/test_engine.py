"""The names of Tune's that our controller rests on, and what it does with idle and busy actors."""

from __future__ import annotations

import inspect
import time
from typing import Any
from unittest.mock import Mock

import pytest
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import MedianStoppingRule
from ray.tune.utils.object_cache import _ObjectCache

from orchestrate.core import resolve
from orchestrate.core.registry import Registry
from orchestrate.scheduler import engine
from orchestrate.scheduler.runtime import Remit
from orchestrate.scheduler.trainable import Payload
from tests.scheduler import parts
from tests.scheduler.conftest import job_data


def test_tune_still_has_the_names_we_override() -> None:
    for name in ("checkpoint", "_update_trial_queue", "_maybe_reuse_cached_actor", "_process_trial_failure"):
        ours = inspect.signature(getattr(engine._Controller, name))
        theirs = inspect.signature(getattr(TuneController, name))
        assert list(ours.parameters) == list(theirs.parameters), name
    source = inspect.getsource(TuneController)
    for name in ("_actor_cache", "_class_cache", "_trial_to_actor", "_resetting_trials", "_actor_manager"):
        assert f"self.{name}" in source
    assert engine.LIVE_ACTORS in inspect.getsource(RayActorManager)
    assert {"cache_object", "flush_cached_objects"} <= set(vars(_ObjectCache))
    assert "_on_insufficient_samples" in vars(MedianStoppingRule)


def test_a_payload_is_opaque_to_tune() -> None:
    import copy

    payload = Payload.pack(7, {"job_id": "x"}, [{"number": 1}])
    assert copy.deepcopy(payload) is payload
    assert str(payload) == "7"


def test_a_death_that_tune_tells_twice_is_heard_once() -> None:
    heard: list[int] = []
    controller = engine._Controller.__new__(engine._Controller)
    controller._driver = Mock(lost=lambda number, error: heard.append(number))
    controller._scheduler_alg = controller._search_alg = controller._callbacks = Mock()
    controller._iteration, controller._trials = 0, []
    trial = Trial("engine-test", stub=True, config={engine.KEY: Payload.pack(7, {}, [])})
    trial.handle_error, trial.should_recover = Mock(), lambda: False
    trial.set_status(Trial.RUNNING)
    controller._schedule_trial_stop = lambda trial, exception=None: trial.set_status(Trial.ERROR)
    for _ in range(2):
        controller._process_trial_failure(trial, RuntimeError("its process died"))
    assert heard == [7]


class Script:
    """A driver that gives a fixed number of launches of a program and writes down what it hears."""

    def __init__(self, count: int, stop_after: float | None = None) -> None:
        self.left = count
        self.number = 0
        self.heard: list[tuple[str, int]] = []
        self.nodes: set[str] = set()
        self.stop_after = stop_after
        self.begun: float | None = None
        self.error: Exception | None = None

    def ask(self) -> Any:
        if not self.left:
            return None
        if self.error is not None:
            raise self.error
        self.left -= 1
        self.number += 1
        order = {"trial_id": self.number, "number": self.number, "candidate": {"x": 0.5, "y": 0.5}, "seed": 1}
        return self.number, [{**order, "attempt": 1}]

    def exhausted(self) -> bool:
        return (
            not self.left and len([1 for kind, _ in self.heard if kind in ("ended", "lost")]) == self.number
        )

    def stopping(self) -> bool:
        """So many seconds after the first start."""
        if self.stop_after is None or self.begun is None:
            return False
        return time.monotonic() > self.begun + self.stop_after

    def started(self, number: int) -> None:
        self.begun = self.begun or time.monotonic()
        self.heard.append(("started", number))

    def reported(self, number: int, reports: Any) -> None:
        self.heard.append(("reported", number))

    def ended(self, number: int, conclusions: Any, node: str) -> None:
        self.heard.append(("ended", number))
        self.nodes.add(node)

    def pruned(self, number: int, reason: str) -> None:
        self.heard.append(("pruned", number))

    def lost(self, number: int, error: Any) -> None:
        self.heard.append(("lost", number))


def run(driver: Script, program: str, width: int, tmp_path: Any) -> None:
    import json

    data = job_data(program, 1)
    job = resolve(data, Registry.discover())
    engine.run_stage(driver, job.stages[0], Remit("test", json.dumps(data), 0, str(tmp_path)), width)


@pytest.mark.ray
def test_launches_run_side_by_side_in_processes_that_are_kept(ray_cluster: str, tmp_path: Any) -> None:
    driver = Script(12)
    run(driver, "bowl {sleep: 0.03}", 2, tmp_path)
    assert sum(kind == "ended" for kind, _ in driver.heard) == 12
    assert len(driver.nodes) == 2


@pytest.mark.ray
def test_stopping_does_not_wait_for_a_busy_program(ray_cluster: str, tmp_path: Any) -> None:
    driver = Script(2, stop_after=2)
    run(driver, "bowl {sleep: 60}", 2, tmp_path)
    assert driver.begun is not None
    assert time.monotonic() - driver.begun < 12
    assert {kind for kind, _ in driver.heard} == {"started"}


@pytest.mark.ray
def test_an_exception_in_the_driver_ends_the_stage_and_is_raised(ray_cluster: str, tmp_path: Any) -> None:
    driver = Script(2)
    driver.error = ZeroDivisionError("ours")
    with pytest.raises(ZeroDivisionError, match="ours"):
        run(driver, "bowl", 1, tmp_path)


@pytest.mark.ray
def test_workers_of_a_group_answer_in_any_order_and_can_be_replaced(ray_cluster: str) -> None:
    from orchestrate.scheduler.workers import RayWorkerGroup

    group = RayWorkerGroup(3, 0, 0)
    try:
        list(group.map(parts.sleepy, [0.0, 0.0, 0.0]))  # by now every process has started
        replies = list(group.map(parts.sleepy, [2.0, 0.0, 0.1]))
        assert sorted(reply.value for reply in replies) == [0.0, 0.1, 2.0]
        assert replies[-1].worker == 0
        assert replies[-1].seconds >= 2.0
        raised = {reply.worker: reply.error for reply in group.map(parts.sleepy, [0.0, -1.0, 0.0])}
        assert raised[0] is None
        assert raised[1] is not None
        assert "worker 1 raised" in raised[1]
        died = {reply.worker: reply.error for reply in group.map(parts.deadly, [False, True, False])}
        assert died[1] is not None
        assert "worker 1 died" in died[1]
        group.replace(1)
        assert [reply.error for reply in group.map(parts.sleepy, [0.0, 0.0, 0.0])] == [None] * 3
        answers = group.map(parts.deaf, [0.0, 3.0, 0.0])
        first = [next(answers) for _ in range(5)]  # not before it has begun: a task that waits is dropped
        group.cancel([1])
        assert sorted(reply.worker for reply in first if reply.last) == [0, 2]
        assert [reply.value for reply in answers] == [3.0]  # it didn't ask whether it is still wanted
        answers = group.map(parts.attentive, [0.0, 30.0, 0.0])
        assert sorted(next(answers).worker for _ in range(2)) == [0, 2]
        group.cancel([1])
        assert list(answers) == []
        group.send(0, parts.sleepy, 0.0, ticket="late", pause=30.0)
        group.send(0, parts.sleepy, 0.1, ticket="dropped")
        group.send(0, parts.sleepy, 0.2, ticket="next")
        assert group.receive(0.1) is None
        group.cancel([0])
        reply = group.receive(10.0)
        assert reply is not None
        assert (reply.ticket, reply.cause) == ("late", "cancelled")
        assert group.receive(0.1) is None  # what waited was dropped with it
    finally:
        group.close()
