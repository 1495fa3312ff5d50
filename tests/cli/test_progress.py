"""Progress as the hooks tell it, and its two views."""

from __future__ import annotations

import io
import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from orchestrate.cli.live import LiveView, render
from orchestrate.cli.plain import ONE_BY_ONE, PlainView
from orchestrate.cli.progress import Progress, StageProgress
from orchestrate.core import Candidate, Goal, JobEvent, StageEvent, TrialEvent
from orchestrate.core.spec import StageSpec
from orchestrate.storage.models import StageRow, TrialRow
from orchestrate.storage.report.facts import StageFacts

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOALS = (Goal("accuracy", "maximize"), Goal("flops", "minimize"))


def stage_event(trials: int = 8, goals: tuple[Goal, ...] = GOALS, **more: Any) -> StageEvent:
    return StageEvent("job-1", "search", trials, goals, **more)


def trial_event(number: int, state: str = "finished", reason: str = "", **values: float) -> TrialEvent:
    return TrialEvent("job-1", "search", number, Candidate(), state, values, reason)


def started(past: Any = None, **stage: Any) -> Progress:
    progress = Progress(past)
    progress.job_started(JobEvent("job-1", "job", ("search", "deploy")))
    progress.stage_started(stage_event(**stage))
    return progress


def test_counts_running_and_best() -> None:
    progress = started()
    stage = progress.stages["search"]
    for number in range(4):
        progress.trial_started(trial_event(number, "running"))
    assert stage.running == {0, 1, 2, 3}
    progress.trial_finished(trial_event(0, accuracy=0.8, flops=5.0))
    progress.trial_finished(trial_event(1, "recalled", accuracy=0.9, flops=7.0))
    progress.trial_finished(trial_event(2, "failed", "ValueError: no\nmore", flops=1.0))
    assert stage.running == {3}
    assert stage.counts == {"finished": 1, "recalled": 1, "failed": 1}
    assert stage.best == {"accuracy": (0.9, 1), "flops": (5.0, 0)}


def test_a_trial_told_twice_counts_once() -> None:
    progress = started()
    for _ in range(2):
        progress.trial_finished(trial_event(0, accuracy=0.8, flops=5.0))
    assert progress.stages["search"].done == 1


def test_an_infeasible_trial_is_never_the_best() -> None:
    progress = started(goals=(Goal("accuracy", "maximize"), Goal("flops", "minimize", maximum=10.0)))
    progress.trial_finished(trial_event(0, accuracy=0.99, flops=11.0))
    assert progress.stages["search"].best == {}
    progress.trial_finished(trial_event(1, accuracy=0.5, flops=9.0))
    assert progress.stages["search"].best["accuracy"] == (0.5, 1)


def test_trials_done_before_a_resume_count_but_not_for_the_pace() -> None:
    past = {"search": [(number, "finished", {"accuracy": 0.5, "flops": 1.0}) for number in range(6)]}
    progress = started(lambda _job: past)
    stage = progress.stages["search"]
    assert stage.done == 6
    assert stage.best["accuracy"] == (0.5, 0)
    assert stage.left(time.monotonic()) is None
    progress.trial_finished(trial_event(6, accuracy=0.4, flops=2.0))
    assert stage.begun is not None
    assert stage.left(stage.begun + 10.0) == pytest.approx(10.0)  # one in 10 s, one to go


def test_a_time_budget_limits_the_estimate() -> None:
    progress = started(trials=0, deadline=time.time() + 30)
    left = progress.stages["search"].left(time.monotonic())
    assert left is not None
    assert 25 < left <= 30


def test_hypervolume_uses_the_goals_references_from_the_start() -> None:
    goals = (Goal("accuracy", "maximize", reference=0.5), Goal("flops", "minimize", reference=10.0))
    progress = started(goals=goals)
    stage = progress.stages["search"]
    progress.trial_finished(trial_event(0, accuracy=0.9, flops=5.0))
    assert stage.hypervolume == pytest.approx(0.4 * 5)
    assert stage.reference_text() == "from accuracy 0.5, flops 10"


values = st.tuples(st.floats(0, 1), st.floats(1, 100))


@settings(max_examples=20)
@given(st.lists(values, min_size=2, max_size=12, unique_by=(lambda v: v[0], lambda v: v[1])))
def test_hypervolume_never_falls_and_is_that_of_the_report(points: list[tuple[float, float]]) -> None:
    stage = StageProgress("search", goals=GOALS)
    before = 0.0
    for number, (accuracy, flops) in enumerate(points):
        stage.add(number, "finished", {"accuracy": accuracy, "flops": flops})
        assert stage.hypervolume is not None
        if number:  # a single trial has no range
            assert stage.hypervolume >= before - 1e-9
            before = stage.hypervolume
    assert stage.hypervolume == pytest.approx(reported(points))
    assert "which moves with the worst trial" in stage.reference_text()


def reported(points: list[tuple[float, float]]) -> float | None:
    """The hypervolume that the report and MLflow tell of the stage's end."""
    trials = [
        TrialRow(number=number, state="finished", candidate={}, values=values, ended_at=NOW)
        for number, values in enumerate({"accuracy": a, "flops": f} for a, f in points)
    ]
    facts = StageFacts(StageRow(name="search"), StageSpec.model_construct(), trials, GOALS)
    return facts.progress[-1].hypervolume


def test_one_objective_has_no_hypervolume() -> None:
    progress = started(goals=GOALS[:1])
    for number in range(8):
        progress.trial_finished(trial_event(number, accuracy=0.1 * number))
    assert progress.stages["search"].hypervolume is None


# Views ------------------------------------------------------------------------------------------


def drawn(progress: Progress, width: int) -> str:
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, force_terminal=False).print(
        render(progress, progress.begun + 65)
    )
    return file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_live_view_fits_its_terminal(width: int) -> None:
    progress = started()
    progress.job = "a-job-with-a-rather-long-name-x7k2mp"
    for number in range(6):
        progress.trial_finished(trial_event(number, accuracy=0.1 * number, flops=1e6 * number))
    progress.trial_finished(trial_event(6, "failed", "ValueError: " + "long " * 40))
    shown = drawn(progress, width)
    assert max(len(line) for line in shown.splitlines()) <= width
    assert "7/8" in shown
    assert "failed" in shown
    assert "hypervolume" in shown
    assert "search #6 failed" in shown
    assert "search #1 " not in shown  # only the last five


def test_the_live_view_shows_only_columns_that_have_something() -> None:
    progress = started()
    progress.trial_finished(trial_event(0, accuracy=0.5, flops=1.0))
    shown = drawn(progress, 80)
    assert "recalled" not in shown
    assert "pruned" not in shown


def test_the_live_view_says_what_it_waits_for() -> None:
    progress = Progress()
    progress.job_started(JobEvent("job-1", "job", ("search",)))
    assert "starting Ray" in drawn(progress, 80)
    progress.stop()
    assert "stopping" in drawn(progress, 120)


def test_the_live_view_leaves_nothing_behind() -> None:
    file = io.StringIO()
    progress = Progress()
    view = progress.view = LiveView(progress, Console(file=file, force_terminal=True, width=80))
    progress.job_started(JobEvent("job-1", "job", ("search",)))
    progress.stage_started(stage_event())
    progress.trial_finished(trial_event(0, accuracy=0.5, flops=1.0))
    progress.stage_finished(stage_event(state="finished"))
    progress.job_finished(JobEvent("job-1", "job", ("search",), "finished"))
    view.close()
    assert file.getvalue().rstrip().endswith("\x1b[2K")  # the last thing is that lines are cleared


def plainly(trials: int, count: int) -> list[str]:
    file = io.StringIO()
    progress = Progress()
    progress.view = PlainView(progress, file)
    progress.job_started(JobEvent("job-1", "job", ("search",)))
    progress.stage_started(stage_event(trials))
    for number in range(count):
        progress.trial_finished(trial_event(number, accuracy=0.5, flops=1.0))
    progress.stage_finished(stage_event(trials, state="finished"))
    progress.view.close()
    assert not re.search(r"[^\n\x20-\x7e]", file.getvalue())  # no control characters
    return file.getvalue().splitlines()


def test_the_plain_view_gives_each_trial_a_line() -> None:
    assert plainly(2, 2) == [
        "job job-1",
        "stage search: 2 trials",
        "search #0 finished [1/2]  accuracy 0.5, flops 1",
        "search #1 finished [2/2]  accuracy 0.5, flops 1",
        "stage search finished: 2 finished; best accuracy 0.5; best flops 1; hypervolume 0.005",
    ]


def test_the_plain_view_sums_many_trials_up() -> None:
    lines = plainly(5000, 3000)
    assert len(lines) < ONE_BY_ONE + 10
    assert "3000 finished" in lines[-1]
