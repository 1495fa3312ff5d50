"""Random search: the baseline, and the prior of every other sampler."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from ...core import (
    Candidate,
    PluginOptions,
    Sampler,
    SearchProblem,
    SpaceExhausted,
    enumerate_candidates,
)
from ...core.draw import draw_candidate
from ...core.seeds import generator

ATTEMPTS = 1000


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
        candidate = draw_candidate(self.problem.space, rng)
        if self.options.unique:
            for _ in range(ATTEMPTS):
                if candidate.digest not in self._proposed:
                    break
                candidate = draw_candidate(self.problem.space, rng)
            else:
                left = self._left()
                candidate = left[int(rng.integers(len(left)))]
        self.adopt(number, candidate)
        return candidate

    def adopt(self, number: int, candidate: Candidate) -> None:
        if self.options.unique:
            self._proposed.add(candidate.digest)

    def _left(self) -> list[Candidate]:
        """List what was never proposed, after so many draws in vain."""
        space = self.problem.space
        left: list[Candidate] = []
        if space.size() is not None and len(self._proposed) <= space.counting_limit:
            left = [one for one in enumerate_candidates(space) if one.digest not in self._proposed]
        if not left:
            raise SpaceExhausted(
                f"{ATTEMPTS} draws from space {space.name!r} gave nothing new: all "
                f"{len(self._proposed)} candidates within reach have been proposed"
            )
        return left
