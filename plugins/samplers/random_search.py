"""Random search: the baseline, and the prior of every other sampler."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from ...core import Candidate, PluginOptions, Sampler, SearchProblem
from ...core.draw import draw_candidate, draw_new
from ...core.seeds import generator


class RandomOptions(PluginOptions):
    """Options of `random`."""

    unique: bool = Field(
        False, description="Never propose a candidate twice; the stage ends when none is left."
    )


class RandomSearch(Sampler[RandomOptions]):
    """Draws each choice independently: uniformly, or in its logarithm where the choice says `log`.

    Bergstra & Bengio, "Random Search for Hyper-Parameter Optimization", JMLR 2012.
    """

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "independent random candidates"

    @property
    def lookahead(self) -> int:
        return 1_000_000

    def start(self, problem: SearchProblem) -> None:
        super().start(problem)
        self._proposed: set[str] = set()

    def ask(self, number: int) -> Candidate:
        rng = generator(self.problem.seed, number)
        if self.options.unique:
            candidate = draw_new(self.problem.space, self._proposed, rng)
        else:
            candidate = draw_candidate(self.problem.space, rng)
        self.adopt(number, candidate)
        return candidate

    def adopt(self, number: int, candidate: Candidate) -> None:
        if self.options.unique:
            self._proposed.add(candidate.digest)
