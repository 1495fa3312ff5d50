"""Scores that a space computes itself: as metrics of a program, or as static objectives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from pydantic import Field

from ...core import (
    Candidate,
    Evaluation,
    PluginOptions,
    Program,
    SearchSpace,
    Shape,
    SpaceError,
    SpecError,
    StaticObjective,
    Task,
    TrialContext,
)
from ...core.errors import near_misses


@runtime_checkable
class Scores(Protocol):
    """A space that scores its own candidates: `hypergrid`, `ngrams`, `hairpins`, or a stranger's."""

    def score(self, candidate: Candidate) -> Mapping[str, float]:
        """All scores of a candidate, by name; deterministic and fast."""
        ...


class SyntheticObjectiveOptions(PluginOptions):
    """Options of the objective `synthetic`."""

    score: str = Field(min_length=1, description="Which of the space's scores.")


class SyntheticObjective(StaticObjective[SyntheticObjectiveOptions]):
    """One of the space's own scores, known without a trial."""

    name: ClassVar[str] = "synthetic"
    summary: ClassVar[str] = "a score of a synthetic space, known without a trial"
    direction = "maximize"

    def compute(self, candidate: Candidate, space: SearchSpace, shape: Shape) -> float:
        if not isinstance(space, Scores):
            raise SpaceError(_refusal(space))
        scores = space.score(candidate)
        wanted = self.options.score
        if wanted not in scores:
            raise SpaceError(f"space {space.name!r} has no score {wanted!r}. {near_misses(wanted, scores)}")
        return scores[wanted]


class Synthetic(Program):
    """Reports all of the space's own scores as metrics: a black box whose answers are known."""

    name: ClassVar[str] = "synthetic"
    summary: ClassVar[str] = "report the scores of a synthetic space"
    batch: ClassVar[int] = 100

    def check(self, space: SearchSpace, task: Task) -> None:
        if not isinstance(space, Scores):
            raise SpecError(_refusal(space))

    def run(self, trial: TrialContext) -> Evaluation:
        space: Any = trial.space
        return Evaluation(space.score(trial.candidate))


def _refusal(space: SearchSpace) -> str:
    return (
        f"space {space.name!r} doesn't score its candidates: use space 'hypergrid', 'ngrams' or "
        "'hairpins', or another program or objective"
    )
