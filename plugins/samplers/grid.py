"""Grid search: every candidate once, in order or shuffled."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from ...core import (
    Candidate,
    Categorical,
    Choice,
    Choose,
    Pick,
    PluginOptions,
    Real,
    Sampler,
    SearchProblem,
    SearchSpace,
    SpaceExhausted,
    SpecError,
    enumerate_candidates,
)
from ...core.draw import probe
from ...core.seeds import generator


class GridOptions(PluginOptions):
    """Options of `grid`."""

    points: int | None = Field(
        None, ge=2, description="Cut each real-valued choice into so many evenly spaced values."
    )
    shuffle: bool = Field(False, description="Visit the candidates in random order, not lexicographically.")


class Grid(Sampler[GridOptions]):
    """Proposes each candidate of a finite space once, the last choice varying fastest.

    The stage ends by itself when all have been proposed.
    """

    name: ClassVar[str] = "grid"
    summary: ClassVar[str] = "every candidate of a finite space, once"

    @property
    def lookahead(self) -> int:
        return 1_000_000

    def start(self, problem: SearchProblem) -> None:
        super().start(problem)
        space = problem.space if self.options.points is None else _Gridded(problem.space, self.options.points)
        for choice in probe(space):
            if isinstance(choice, Real) and choice.values is None:
                raise SpecError(
                    f"sampler 'grid' can't list the values of {choice.name!r}, real numbers from "
                    f"{choice.low:g} to {choice.high:g}: give `points` to cut them into a grid, "
                    "or use 'random', 'qmc' or 'tpe'"
                )
        if self.options.shuffle and (space.size() or math.inf) > space.counting_limit:
            raise SpecError(
                f"sampler 'grid' shuffles up to {space.counting_limit} candidates, and space "
                f"{problem.space.name!r} has more: leave `shuffle` out, or use 'random' with "
                "`unique: true`"
            )
        self._candidates = self._ordered(space)

    def ask(self, number: int) -> Candidate:
        try:
            return next(self._candidates)
        except StopIteration:
            raise SpaceExhausted("the grid is complete: every candidate has been proposed") from None

    def adopt(self, number: int, candidate: Candidate) -> None:
        next(self._candidates, None)

    def _ordered(self, space: SearchSpace) -> Iterator[Candidate]:
        if not self.options.shuffle:
            yield from enumerate_candidates(space)
            return
        candidates = list(enumerate_candidates(space))
        for index in generator(self.problem.seed).permutation(len(candidates)):
            yield candidates[index]


class _Gridded(SearchSpace):
    """A space whose real-valued choices offer a grid only."""

    name: ClassVar[str] = "gridded"
    summary: ClassVar[str] = "a space with its real numbers cut into a grid"

    def __init__(self, space: SearchSpace, points: int) -> None:
        super().__init__()
        self._space = space
        self._points = points

    def choices(self, choose: Choose) -> None:
        self._space.choices(choose)

    def generate(self, pick: Pick) -> Candidate:
        return self._space.generate(lambda choice: pick(self._cut(choice)))

    def _cut(self, choice: Choice) -> Choice:
        if not isinstance(choice, Real) or choice.low == choice.high:
            return choice
        low, high = choice.low, choice.high
        if choice.log:
            low, high = math.log(low), math.log(high)
        steps = [low + (high - low) * index / (self._points - 1) for index in range(self._points)]
        values = [math.exp(step) for step in steps] if choice.log else steps
        inner = [min(max(value, choice.low), choice.high) for value in values[1:-1]]
        return Categorical(choice.name, tuple(dict.fromkeys((choice.low, *inner, choice.high))))
