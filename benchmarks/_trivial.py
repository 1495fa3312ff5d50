"""A trial that costs nothing, as a job's parts: what is left is the orchestrator's own time."""

from __future__ import annotations

from orchestrate.core import Choose, SearchSpace, TrialContext


class Line(SearchSpace):
    """A number in [0, 1]."""

    def choices(self, choose: Choose) -> None:
        choose.real("x", 0, 1)


def square(trial: TrialContext) -> dict[str, float]:
    """Square the candidate's number."""
    return {"loss": float(trial.candidate["x"]) ** 2}  # type: ignore[arg-type]
