"""Early stopping under several drivers: each goes on deciding as one driver would have."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from orchestrate.scheduler.early_stopping import Asha, EarlyStopping, Median
from orchestrate.scheduler.trainable import SCORE, STEP

STEPS = 9


@dataclass
class Launch:
    """A trial as Tune knows it."""

    trial_id: str


def asha() -> Asha:
    return Asha(
        time_attr=STEP,
        metric=SCORE,
        mode="min",
        max_t=STEPS,
        grace_period=1,
        reduction_factor=3,
        stop_last_trials=False,
    )


def median() -> Median:
    return Median(time_attr=STEP, metric=SCORE, mode="min", grace_period=2, min_samples_required=3)


Make = Callable[[], EarlyStopping]
both = pytest.mark.parametrize("make", [asha, median])


def scores(trials: int) -> list[list[float]]:
    chance = random.Random(4)
    return [[chance.random() + 1 / step for step in range(1, STEPS + 1)] for _ in range(trials)]


def run(
    scheduler: EarlyStopping,
    table: list[list[float]],
    heard: list[tuple[int, int, float]],
    die_after: int | None,
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
            if scheduler.on_trial_result(None, launch, result) == TrialScheduler.STOP:
                break
        ends.append((trial, ended))
    return ends


@both
def test_some_are_stopped_and_some_run_to_the_end(make: Make) -> None:
    ends = [step for _, step in run(make(), scores(12), [], None)]
    assert min(ends) < STEPS == max(ends)


@both
@pytest.mark.parametrize("dies", range(1, 40))
def test_a_new_driver_decides_as_the_old_one_would_have(make: Make, dies: int) -> None:
    table = scores(12)
    whole_heard: list[tuple[int, int, float]] = []
    whole = run(make(), table, whole_heard, None)
    heard: list[tuple[int, int, float]] = []
    run(make(), table, heard, dies)
    second = make()
    second.replay(heard)
    assert run(second, table, heard, None) == whole
    assert heard == whole_heard


@both
def test_a_trial_that_is_launched_again_is_counted_once(make: Make) -> None:
    scheduler = make()
    for attempt in range(5):
        launch: Any = Launch(f"attempt-{attempt}")
        scheduler.launched(launch.trial_id, 7)
        scheduler.on_trial_result(None, launch, {STEP: 1, SCORE: 1.0})
    if isinstance(scheduler, Asha):
        assert len(scheduler._brackets[0]._rungs[-1][1]) == 1
    else:
        assert isinstance(scheduler, Median)
        assert [len(heard) for heard in scheduler._results.values()] == [1]
