"""Evolutionary search for the best network under hard limits (1908.09791, section 3.4).

Parents survive, children are mutants and crossings of the best quarter; no candidate is proposed twice,
none that breaks a limit is scored, and every scored one, the last generation's included, may win.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from ...core import Candidate, Categorical, Choice, Shape, SpecError, Value
from ...core.seeds import generator
from . import cost
from .base import RESOLUTION, OnceForAll
from .plan import Plan

PARENTS = 0.25
MUTATION = 0.1
RESOLUTION_MUTATION = 0.5
TRIES = 50
"""Attempts at a child that is feasible and new, before a fresh one is drawn; and at that, in turn."""


@dataclass(frozen=True)
class Costs:
    """What a network costs. `latency_ms` is None where no table is at hand."""

    macs: float
    parameters: float
    memory: float
    """Bytes of activations, at most."""
    latency_ms: float | None = None


@dataclass(frozen=True)
class Limits:
    """The most that a network may cost, in the units of `Costs`; None: any."""

    macs: float | None = None
    parameters: float | None = None
    memory: float | None = None
    latency_ms: float | None = None

    def excess(self, costs: Costs) -> float:
        """By how much the limits are broken: the sum of relative surpluses, 0 when none is."""
        total = 0.0
        for one in fields(self):
            limit, value = getattr(self, one.name), getattr(costs, one.name)
            if limit is not None:
                total += max(0.0, value / limit - 1.0)
        return total


class CostModel:
    """Costs of a space's candidates, from their plans and, if given, a latency function."""

    def __init__(
        self, space: OnceForAll, shape: Shape, latency: Callable[[Plan], float] | None = None
    ) -> None:
        self.space = space
        self._shape = shape
        self._latency = latency
        self.of = lru_cache(maxsize=100_000)(self._of)

    def _of(self, candidate: Candidate) -> Costs:
        plan = self.space.plan(candidate, self._shape)
        return Costs(
            cost.macs(plan),
            cost.parameters(plan),
            cost.peak_memory(plan),
            self._latency(plan) if self._latency is not None else None,
        )

    def cheapest(self, name: str) -> Candidate:
        """The candidate of least `name`, found by changing one gene at a time from the smallest on.

        Raises:
            SpecError: `name` is a latency, and none is known.
        """
        best = self.space.smallest
        if getattr(self.of(best), name) is None:
            raise SpecError(
                "a limit on latency needs a latency table: give the job a stage with program 'ofa-profile', "
                "or time layers here with --latency-here"
            )
        least: float = getattr(self.of(best), name)
        improved = True
        while improved:
            improved = False
            for gene in self.space.genes:
                if gene.name not in best or gene.kind == "depth":
                    continue
                for option in gene.options:
                    other = Candidate({**best, gene.name: option})
                    value: float = getattr(self.of(other), name)
                    if value < least:
                        best, least, improved = other, value, True
        return best


class InfeasibleError(SpecError):
    """No network of the space keeps the limits: raise them. Names the cheapest one and its costs."""

    def __init__(self, message: str, candidate: Candidate, costs: Costs) -> None:
        super().__init__(message)
        self.candidate = candidate
        self.costs = costs


@dataclass(frozen=True)
class Found:
    """A search's result."""

    ranked: tuple[tuple[Candidate, float], ...]
    """Scored candidates and their fitness, best first."""
    progress: tuple[float, ...]
    """Best fitness after each generation."""

    @property
    def best(self) -> Candidate:
        """The winner."""
        return self.ranked[0][0]


def check_limits(model: CostModel, limits: Limits) -> Candidate:
    """Give a candidate that keeps the limits.

    Raises:
        InfeasibleError: there seems to be none. For a single limit on multiply-accumulates,
            parameters or memory that is certain.
    """
    wanted = [one.name for one in fields(limits) if getattr(limits, one.name) is not None]
    options = [model.cheapest(name) for name in wanted] or [model.space.smallest]
    best = min(options, key=lambda candidate: limits.excess(model.of(candidate)))
    costs = model.of(best)
    if limits.excess(costs) > 0:
        broken = [
            f"{name} {getattr(costs, name):g} of at most {getattr(limits, name):g}"
            for name in wanted
            if getattr(costs, name) > getattr(limits, name)
        ]
        raise InfeasibleError(
            f"no network of space {model.space.name!r} keeps the limits. The cheapest has "
            f"{', '.join(broken)}; its choices: "
            f"{', '.join(f'{name}={value}' for name, value in best.items())}. Raise the limits",
            best,
            costs,
        )
    return best


def search(
    model: CostModel,
    fitness: Callable[[Sequence[Candidate]], Sequence[float]],
    limits: Limits,
    *,
    population: int = 100,
    generations: int = 30,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> Found:
    """Search for the candidate of greatest fitness within the limits.

    Args:
        model: costs of the space's candidates.
        fitness: scores a list of candidates, greater is better.
        limits: what they may cost.
        population: candidates in a generation.
        generations: generations after the first.
        seed: of everything random.
        progress: told of each generation's number and the best fitness so far.

    Raises:
        InfeasibleError: no candidate keeps the limits.
    """
    anchor = check_limits(model, limits)
    rng = generator(seed)
    walk = _Walk(model, limits, anchor, rng)
    scores: dict[Candidate, float] = {}
    best: list[float] = []
    for generation in range(generations + 1):
        if generation == 0:
            new = walk.fill([anchor], population, walk.fresh)
        else:
            ranked = sorted(scores, key=lambda one: (-scores[one], one.digest))
            parents = ranked[: max(2, round(population * PARENTS))]
            wanted = population - min(len(parents), population - 1)
            new = walk.fill([], wanted // 2, lambda: walk.mutant(parents))  # noqa: B023 - used at once
            new = walk.fill(new, wanted, lambda: walk.crossing(parents))  # noqa: B023 - used at once
        if not new:
            break  # every feasible candidate that can be reached is scored
        scores.update(zip(new, fitness(new), strict=True))
        best.append(max(scores.values()))
        if progress is not None:
            progress(generation, best[-1])
    ranked = sorted(scores, key=lambda one: (-scores[one], one.digest))
    return Found(tuple((one, scores[one]) for one in ranked), tuple(best))


class _Walk:
    """Draws candidates within limits, none twice."""

    def __init__(self, model: CostModel, limits: Limits, anchor: Candidate, rng: np.random.Generator) -> None:
        self._model = model
        self._limits = limits
        self._anchor = anchor
        self._rng = rng
        self._seen: set[Candidate] = set()

    def fill(self, start: Sequence[Candidate], count: int, make: Callable[[], Candidate]) -> list[Candidate]:
        """Add new, feasible candidates until there are `count`, or no more can be found."""
        found = list(start)
        self._seen.update(found)
        while len(found) < count:
            new = self._new(make) or self._new(self.fresh)
            if new is None:
                break
            found.append(new)
        return found

    def _new(self, make: Callable[[], Candidate]) -> Candidate | None:
        for _ in range(TRIES):
            candidate = make()
            if candidate not in self._seen and self._limits.excess(self._model.of(candidate)) == 0:
                self._seen.add(candidate)
                return candidate
        return None

    def fresh(self) -> Candidate:
        """A random candidate, drawn towards one that is known to be feasible until it is too."""
        candidate = self._generate(self._draw)
        while self._limits.excess(self._model.of(candidate)) > 0 and candidate != self._anchor:
            candidate = self._crossed(candidate, self._anchor)
        return candidate

    def mutant(self, parents: Sequence[Candidate]) -> Candidate:
        """A parent with some genes drawn anew."""
        parent = parents[int(self._rng.integers(len(parents)))]

        def pick(choice: Categorical) -> Value:
            rate = RESOLUTION_MUTATION if choice.name == RESOLUTION else MUTATION
            if choice.name not in parent or self._rng.random() < rate:
                return self._draw(choice)
            return parent[choice.name]

        return self._generate(pick)

    def crossing(self, parents: Sequence[Candidate]) -> Candidate:
        """Each gene from one of two parents."""
        one, other = (parents[int(self._rng.integers(len(parents)))] for _ in range(2))
        return self._crossed(one, other)

    def _crossed(self, one: Candidate, other: Candidate) -> Candidate:
        def pick(choice: Categorical) -> Value:
            holders = [parent for parent in (one, other) if choice.name in parent]
            if not holders:
                return self._draw(choice)
            return holders[int(self._rng.integers(len(holders)))][choice.name]

        return self._generate(pick)

    def _draw(self, choice: Categorical) -> Value:
        return choice.options[int(self._rng.integers(len(choice.options)))]

    def _generate(self, pick: Callable[[Categorical], Value]) -> Candidate:
        def answer(choice: Choice) -> Value:
            assert isinstance(choice, Categorical)
            return pick(choice)

        return self._model.space.generate(answer)
