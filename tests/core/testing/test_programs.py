from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from orchestrate.core import Evaluation, Program, SearchSpace, SpecError, Task, TrialContext, TrialPruned
from orchestrate.core.testing import ContractError, check_program
from tests.core.testing.examples import Blobs

STEPS = 3


class Base(Program):
    """Adds numbers up, checkpointing each step: a sound program, to break."""

    name = "base"
    summary = "adds numbers up"
    reports_steps = True

    def run(self, trial: TrialContext) -> Evaluation:
        state = trial.restore() or {"step": 0, "total": float(trial.seed)}
        while state["step"] < STEPS:
            state = {"step": state["step"] + 1, "total": state["total"] + state["step"]}
            trial.report({"total": state["total"]}, state["step"])
            trial.checkpoint(state)
        return Evaluation({"total": state["total"]})


class Cheating(Base):
    """Looks at the test split."""

    def run(self, trial: TrialContext) -> Evaluation:
        trial.task.split("test")
        return super().run(trial)


class Global(Base):
    """Draws from torch's global generator."""

    def run(self, trial: TrialContext) -> Evaluation:
        import torch

        return Evaluation({**super().run(trial).metrics, "noise": float(torch.rand(()))})


class NotANumber(Base):
    """Calls NaN a score."""

    def run(self, trial: TrialContext) -> Evaluation:
        return Evaluation({**super().run(trial).metrics, "loss": float("nan")})


class Returning(Base):
    """Returns a plain map."""

    def run(self, trial: TrialContext) -> Any:
        return {"total": 1.0}


class Failing(Base):
    """Fails."""

    def run(self, trial: TrialContext) -> Evaluation:
        raise ValueError("no data")


class Silent(Base):
    """Says that it reports, and doesn't."""

    def run(self, trial: TrialContext) -> Evaluation:
        return Evaluation({"total": 1.0})


class Backwards(Base):
    """Counts down."""

    def run(self, trial: TrialContext) -> Evaluation:
        for step in (2, 1):
            trial.report({"total": 1.0}, step)
        return Evaluation({"total": 1.0})


class Stubborn(Base):
    """Doesn't let itself be stopped."""

    def run(self, trial: TrialContext) -> Evaluation:
        try:
            return super().run(trial)
        except TrialPruned:
            return Evaluation({"total": 0.0})


class Careless(Base):
    """Checkpoints half of its state."""

    def run(self, trial: TrialContext) -> Evaluation:
        state = trial.restore()
        step, total = (state["step"], 0.0) if state else (0, float(trial.seed))
        while step < STEPS:
            step, total = step + 1, total + step
            trial.checkpoint({"step": step})
            trial.report({"total": total}, step)
        return Evaluation({"total": total})


class Timed(Base):
    """Reports something that varies."""

    runs = count()

    def run(self, trial: TrialContext) -> Evaluation:
        return Evaluation({**super().run(trial).metrics, "seconds": float(next(self.runs))})


class Choosy(Base):
    """Serves no space."""

    def check(self, space: SearchSpace, task: Task) -> None:
        raise SpecError("wants another space")


@pytest.mark.parametrize(
    ("program", "rule"),
    [
        (Cheating(), "reads the test split"),
        (Global(), "run twice from one seed.*noise"),
        (NotANumber(), "metric 'loss' is nan"),
        (Returning(), "returned a dict"),
        (Failing(), "must run.*no data"),
        (Silent(), "says `reports_steps`, and reported none"),
        (Backwards(), r"reported the steps \[2, 1\]"),
        (Stubborn(), "went on after its trial was stopped"),
        (Careless(), "interrupted after its first report.*total"),
        (Timed(), "run twice from one seed.*seconds"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_rule_is_named(program: Program, rule: str) -> None:
    with pytest.raises(ContractError, match=rule):
        check_program(program, Blobs())


def test_sound_programs_pass() -> None:
    check_program(Base(), Blobs())
    check_program(Timed(), Blobs(), varying={"seconds"})


def test_a_refusal_reaches_the_caller() -> None:
    with pytest.raises(SpecError, match="another space"):
        check_program(Choosy(), Blobs())
