"""The sampler: the best candidate so far, with one choice changed."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, PositiveInt

from orchestrate.core import (
    Candidate,
    Choice,
    Observation,
    PluginOptions,
    Sampler,
    SearchProblem,
    SpecError,
    Value,
)
from orchestrate.core.draw import draw, draw_candidate
from orchestrate.core.seeds import generator


class HillClimbingOptions(PluginOptions):
    """Options of `hill-climbing`."""

    startup: PositiveInt = Field(default=5, description="Random candidates before the climb.")


class HillClimbing(Sampler[HillClimbingOptions]):
    """Proposes random neighbours of the best feasible candidate so far.

    White et al., "Exploring the Loss Landscape in Neural Architecture Search", arXiv 2005.02960.
    """

    name: ClassVar[str] = "hill-climbing"
    summary: ClassVar[str] = "neighbours of the best candidate so far"

    def start(self, problem: SearchProblem) -> None:
        super().start(problem)
        if len(problem.optimised) != 1:
            raise SpecError("sampler 'hill-climbing' optimises one objective: use 'nsga2' or 'evolution'")
        self._best: Candidate | None = None
        self._loss = float("inf")

    def ask(self, number: int) -> Candidate:
        rng = generator(self.problem.seed, number)  # the only randomness: a restart repeats it
        space, best = self.problem.space, self._best
        if best is None or number < self.options.startup:
            return draw_candidate(space, rng)
        changed = list(best)[int(rng.integers(len(best)))]

        def pick(choice: Choice) -> Value:
            kept = choice.name in best and choice.name != changed and best[choice.name] in choice
            return best[choice.name] if kept else draw(choice, rng)

        return space.generate(pick)

    def tell(self, number: int, candidate: Candidate, observation: Observation) -> None:
        if not observation.scored or observation.violation > 0:
            return
        goal = self.problem.optimised[0]
        value = observation.values[goal.name]
        loss = value if goal.direction == "minimize" else -value
        if loss < self._loss:
            self._best, self._loss = candidate, loss
