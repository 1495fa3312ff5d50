"""What a run's clock reads, and what is made of several runs."""

from __future__ import annotations

import overhead
import pytest
from overhead import BARE, OURS, Clock, Reading


def test_the_clock_tells_the_parts_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 13.0, 13.5, 14.0, 16.0])
    monkeypatch.setattr("overhead.time.perf_counter", lambda: next(times))
    clock = Clock(3)
    clock.call()
    for _ in range(3):
        clock.tick()
    clock.finished_at = 15.0
    reading = clock.reading(before=2.0)
    assert (reading.start_seconds, reading.first_seconds, reading.after_seconds) == (8, 3, 1)
    assert reading.steady == pytest.approx(500)  # 1 s, two trials after the first
    assert reading.per_trial == pytest.approx(1000)  # the job's end is 2 s after the first trial's


def test_a_run_that_lost_a_trial_is_no_measurement() -> None:
    clock = Clock(2)
    clock.tick()
    with pytest.raises(AssertionError, match="1 trials ended, not 2"):
        clock.reading(0)


def test_ratios_are_taken_run_by_run() -> None:
    def runs(*per_trial: float) -> list[Reading]:
        return [Reading(8, 2, one - 1, one, 0.3) for one in per_trial]

    records = overhead.as_records(
        {OURS: runs(10, 20, 90), BARE: runs(20, 20, 30), "slow": runs(60, 60, 60)}, 301
    )
    ratio, per_trial, drained, *_ = records
    assert (ratio.value, ratio.holds, ratio.peers) == (1, True, {BARE: 1, "slow": 3})
    assert (per_trial.value, per_trial.peers) == (20, {BARE: 20, "slow": 60})
    assert drained.value == 21  # 0.3 s over 300 trials


def test_the_goal_can_be_missed() -> None:
    slow, quick = Reading(0, 0, 40, 40, 0), Reading(0, 0, 20, 20, 0)
    assert overhead.as_records({OURS: [slow], BARE: [quick]}, 11)[0].holds is False
