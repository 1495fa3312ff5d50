"""Successive halving under several drivers: each goes on deciding as one driver would have."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest

from orchestrate.scheduler.engine import _Asha
from orchestrate.scheduler.trainable import SCORE, STEP

STEPS = 9


@dataclass
class Launch:
    """A trial as Tune knows it."""

    trial_id: str


def asha() -> _Asha:
    return _Asha(
        time_attr=STEP,
        metric=SCORE,
        mode="min",
        max_t=STEPS,
        grace_period=1,
        reduction_factor=3,
        stop_last_trials=False,
    )


def scores(trials: int) -> list[list[float]]:
    chance = random.Random(4)
    return [[chance.random() + 1 / step for step in range(1, STEPS + 1)] for _ in range(trials)]


def run(
    scheduler: _Asha, table: list[list[float]], heard: list[tuple[int, int, float]], die_after: int | None
) -> list[tuple[int, int]]:
    """Run trials one after another from where `heard` ends; the steps at which they ended.

    With `die_after`, the driver dies once so many reports are recorded, before it acts on the last one.
    """
    last = {trial: step for trial, step, _ in heard}
    ends: list[tuple[int, int]] = []
    for trial, row in enumerate(table):
        launch: Any = Launch(f"launch-{trial}-{len(heard)}")
        passed = scheduler.launched(launch.trial_id, trial)
        if passed:
            ends.append((trial, passed[0]))
            continue
        ended = last.get(trial, 0)
        for step in range(last.get(trial, 0) + 1, STEPS + 1):
            heard.append((trial, step, row[step - 1]))
            if len(heard) == die_after:
                return ends
            result = {STEP: step, SCORE: row[step - 1]}
            ended = step
            if scheduler.on_trial_result(None, launch, result) == scheduler.STOP:
                break
        ends.append((trial, ended))
    return ends


def test_some_are_stopped_and_some_run_to_the_end() -> None:
    ends = run(asha(), scores(12), [], None)
    assert {step for _, step in ends} >= {1, STEPS}


@pytest.mark.parametrize("dies", range(1, 40))
def test_a_new_driver_decides_as_the_old_one_would_have(dies: int) -> None:
    table = scores(12)
    whole_heard: list[tuple[int, int, float]] = []
    whole = run(asha(), table, whole_heard, None)
    heard: list[tuple[int, int, float]] = []
    run(asha(), table, heard, dies)
    second = asha()
    second.replay(heard)
    assert run(second, table, heard, None) == whole
    assert heard == whole_heard


def test_a_trial_that_is_launched_again_is_counted_once() -> None:
    scheduler = asha()
    for attempt in range(5):
        launch: Any = Launch(f"attempt-{attempt}")
        scheduler.launched(launch.trial_id, 7)
        scheduler.on_trial_result(None, launch, {STEP: 1, SCORE: 1.0})
    rung = scheduler._brackets[0]._rungs[-1][1]
    assert len(rung) == 1
