"""A trial that costs nothing, as a job's parts: what is left is the orchestrator's own time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrate.core import Choose, Evaluation, Program, SearchSpace, TrialContext


class Line(SearchSpace):
    """A number in [0, 1]."""

    def choices(self, choose: Choose) -> None:
        choose.real("x", 0, 1)


class Hundred(SearchSpace):
    """A number from 0 to 99."""

    def choices(self, choose: Choose) -> None:
        choose.integer("x", 0, 99)


class Thousands(SearchSpace):
    """A number from 0 to 1,999."""

    def choices(self, choose: Choose) -> None:
        choose.integer("x", 0, 1999)


def square(trial: TrialContext) -> dict[str, float]:
    """Square the candidate's number."""
    return {"loss": float(trial.candidate["x"]) ** 2}  # type: ignore[arg-type]


class Squares(Program):
    """The same, for a hundred candidates at once."""

    batch = 100

    def run(self, trial: TrialContext) -> Evaluation:
        return Evaluation(square(trial))

    def run_batch(self, trials: Sequence[TrialContext]) -> Iterable[Evaluation]:
        return [self.run(trial) for trial in trials]
