"""Regularised evolution: tournaments over the latest results, one recorded choice changed."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from ...core import Candidate, Observation, PluginOptions, Sampler, SearchProblem, SpecError
from ...core.draw import draw_candidate
from ...core.mutate import mutate
from ...core.pareto import crowding, losses, pareto_ranks
from ...core.seeds import generator


class EvolutionOptions(PluginOptions):
    """Options of `evolution`."""

    population: int = Field(50, ge=2, description="How many of the latest scored candidates may be parents.")
    tournament: int = Field(10, ge=1, description="Members drawn for a tournament; its best is the parent.")
    mutation: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Probability of changing each choice, at least one; by default one changes.",
    )
    step: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Change numbers by a normal step of this part of their range (of its "
        "logarithm, where the choice says log); by default they are drawn afresh.",
    )

    functional_change: bool = Field(
        False,
        description="Mutate again until the child computes something else than its parent, as far as the "
        "stage's recall can tell.",
    )
    tabu: int | None = Field(
        None,
        ge=1,
        description="Mutate again while the child computes what was proposed so many times already, as far "
        "as the stage's recall can tell.",
    )
    attempts: int = Field(
        10, ge=1, description="Mutations tried for one child, where it has to be different; the last stands."
    )

    @model_validator(mode="after")
    def _fits(self) -> EvolutionOptions:
        if self.tournament > self.population:
            raise ValueError(f"tournament {self.tournament} is larger than population {self.population}")
        return self


@dataclass(frozen=True)
class Member:
    """A candidate and how it did."""

    candidate: Candidate
    observation: Observation


class Evolution(Sampler[EvolutionOptions]):
    """Aging evolution: the oldest dies, whatever its score.

    The first `population` asks are random. Each later one re-runs the space's program along the
    parent's choices with one of them changed; choices that become active are drawn at random.

    Parents compare by constrained dominance (Deb et al., NSGA-II, 2002, section VI): less violation
    first, then the loss, or with several objectives the non-dominated rank and the crowding
    distance within the population. Until something is scored, candidates refused by their bounds
    compete by their violation.

    With `functional_change` or `tabu`, a child that computes what its parent does, or what was proposed
    often enough, is drawn again (Gillard et al., "Unified Functional Hashing in Automatic Machine
    Learning", arXiv 2302.05433). Both change what is searched, which recall alone doesn't.

    Real et al., "Regularized Evolution for Image Classifier Architecture Search", arXiv 1802.01548,
    algorithm 1. Asks don't wait: a result joins the population when it is told.
    """

    name: ClassVar[str] = "evolution"
    summary: ClassVar[str] = "regularised (aging) evolution with tournaments"

    @property
    def lookahead(self) -> int:
        """Results of one tournament hardly change the next while the population is large."""
        return max(1, self.options.population // 10)

    def start(self, problem: SearchProblem) -> None:
        super().start(problem)
        if problem.key is None and (self.options.functional_change or self.options.tabu):
            raise SpecError(
                "`functional_change` and `tabu` ask the stage's recall what candidates compute: give the "
                "stage a `recall`, such as `recall: {name: exact}`"
            )
        self._proposed: Counter[str] = Counter()
        self._asked = 0
        self._population: deque[Member] = deque(maxlen=self.options.population)
        self._refused: deque[Member] = deque(maxlen=self.options.population)
        self._fitness: list[tuple[float, ...]] | None = None

    def ask(self, number: int) -> Candidate:
        rng = generator(self.problem.seed, number)
        space = self.problem.space
        parents = self._population or self._refused
        if self._asked < self.options.population or not parents:
            candidate = draw_candidate(space, rng)
        else:
            if self._fitness is None:
                self._fitness = fitness(parents, self.problem)
            entrants = rng.integers(len(parents), size=self.options.tournament)
            winner = min(entrants.tolist(), key=self._fitness.__getitem__)
            candidate = self._child(parents[winner].candidate, rng)
        self.adopt(number, candidate)
        return candidate

    def adopt(self, number: int, candidate: Candidate) -> None:
        self._asked += 1
        if self.options.tabu is not None and self.problem.key is not None:
            self._proposed[self.problem.key(candidate)] += 1

    def _child(self, parent: Candidate, rng: np.random.Generator) -> Candidate:
        key, options = self.problem.key, self.options
        child = mutate(self.problem.space, parent, rng, rate=options.mutation, step=options.step)
        if key is None or not (options.functional_change or options.tabu):
            return child
        for _ in range(options.attempts - 1):
            known = key(child)
            unchanged = options.functional_change and known == key(parent)
            refused = options.tabu is not None and self._proposed[known] >= options.tabu
            if not (unchanged or refused):
                break
            child = mutate(self.problem.space, parent, rng, rate=options.mutation, step=options.step)
        return child

    def tell(self, number: int, candidate: Candidate, observation: Observation) -> None:
        if observation.scored:
            self._population.append(Member(candidate, observation))
        elif observation.outcome == "infeasible":
            self._refused.append(Member(candidate, observation))
        else:
            return
        self._fitness = None


def fitness(members: Sequence[Member], problem: SearchProblem) -> list[tuple[float, ...]]:
    """Give each member a key; smaller is better."""
    keys = [(member.observation.violation, 0.0, 0.0) for member in members]
    kept = [index for index, member in enumerate(members) if _ranked(member)]
    if not kept:
        return list(keys)
    table = losses([members[index].observation.values for index in kept], problem.goals)
    if table.shape[1] == 1:
        ranks, tie = table[:, 0], np.zeros(len(kept))
    else:
        ranks = pareto_ranks(table)
        tie = -crowding(table, ranks)
    for index, rank, distance in zip(kept, ranks.tolist(), tie.tolist(), strict=True):
        keys[index] = (0.0, rank, distance)
    return list(keys)


def _ranked(member: Member) -> bool:
    return member.observation.scored and member.observation.violation == 0
