"""Candidates as edits of known ones: a walk chooses a parent, then which of its choices to change.

So MOGFN-AL walks (Jain et al., arXiv 2210.12765, section 4.2); here in the space's own order, with
conditional choices, and with a parent that the policy chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from ...core import Candidate, Categorical, Choice, Choose, Integer, Real, SearchSpace, Value
from .environment import Act, ActBack, Environment, Trajectories
from .slots import Division
from .walk import Walks

PARENT = "(parent)"
KEPT = " (kept)"


class Edits(SearchSpace):
    """What is at most `most` changes away from one of m parents.

    A choice that the parent makes is changed if it takes another value; once no change is left it stays.
    A choice that the parent doesn't make, or whose options have moved, is free. Of a real number it is
    asked first whether it stays, since hardly any other answer would say so.

    A candidate of this space tells its parent. What is near several of them has several names here
    (`write`), each of which one walk makes.
    """

    name: ClassVar[str] = "edits"
    summary: ClassVar[str] = "candidates near known ones"

    def __init__(self, space: SearchSpace, parents: Sequence[Candidate], most: int) -> None:
        super().__init__()
        self.space, self.parents, self.most = space, parents, most
        self._near: dict[Candidate, list[int]] = {}

    def choices(self, choose: Choose) -> None:
        self._follow(choose)

    def result(self, edited: Candidate) -> Candidate:
        """The candidate that edits make."""
        return self._follow(Choose(lambda choice: edited[choice.name]))

    def near(self, candidate: Candidate) -> list[int]:
        """The parents that a candidate can be made from."""
        if candidate not in self._near:
            changes = [0] * len(self.parents)

            def pick(choice: Choice) -> Value:
                value = candidate[choice.name]
                for index, parent in enumerate(self.parents):
                    changes[index] += _stays(parent, choice) and _differ(parent[choice.name], value)
                return value

            self.space.generate(pick)
            self._near[candidate] = [index for index, count in enumerate(changes) if count <= self.most]
        return self._near[candidate]

    def write(self, candidate: Candidate, index: int) -> Candidate:
        """The edits of a parent that make a candidate near it."""

        def pick(choice: Choice) -> Value:
            if choice.name == PARENT:
                return index
            if choice.name.endswith(KEPT):
                name = choice.name.removesuffix(KEPT)
                return candidate[name] == self.parents[index][name]
            return candidate[choice.name]

        return self.generate(pick)

    def _follow(self, choose: Choose) -> Candidate:
        parent = self.parents[choose.categorical(PARENT, range(len(self.parents)))]
        left = self.most

        def pick(choice: Choice) -> Value:
            nonlocal left
            stays = _stays(parent, choice)
            if stays and (left == 0 or (_endless(choice) and choose.categorical(*_whether(choice)))):
                return parent[choice.name]
            value = _offered(choose, choice)
            left -= stays and _differ(parent[choice.name], value)
            return value

        return self.space.generate(pick)


class EditWalks(Environment):
    """Walks of edits, whose candidates are what the edits make.

    Going back, each parent that is near enough is as likely.
    """

    one_walk = False

    def __init__(self, edits: Edits, division: Division | None = None) -> None:
        self.edits = edits
        self.walks = Walks(edits, division)
        self.features, self.actions = self.walks.features, self.walks.actions

    def forward(self, count: int, act: Act, rng: np.random.Generator) -> Trajectories:
        walks = self.walks.forward(count, act, rng)
        return self._of(walks, [self.edits.result(one) for one in walks.candidates])

    def backward(
        self, candidates: Sequence[Candidate], act: ActBack | None, rng: np.random.Generator
    ) -> Trajectories:
        near = [self.edits.near(candidate) for candidate in candidates]
        chosen = [among[int(rng.integers(len(among)))] for among in near]
        edited = [self.edits.write(one, index) for one, index in zip(candidates, chosen, strict=True)]
        return self._of(self.walks.backward(edited, act, rng), candidates)

    def _of(self, walks: Trajectories, candidates: Sequence[Candidate]) -> Trajectories:
        parents = np.array([len(self.edits.near(candidate)) for candidate in candidates])
        return replace(walks, candidates=candidates, fixed=walks.fixed + np.log(parents))  # less log P_B


def _stays(parent: Candidate, choice: Choice) -> bool:
    """Whether a parent's answer may stay."""
    return choice.name in parent and parent[choice.name] in choice


def _differ(one: Value, other: Value) -> bool:
    return type(one) is not type(other) or one != other


def _endless(choice: Choice) -> bool:
    return isinstance(choice, Real) and choice.low < choice.high


def _whether(choice: Choice) -> tuple[str, Sequence[bool]]:
    return choice.name + KEPT, (True, False)


def _offered(choose: Choose, choice: Choice) -> Value:
    match choice:
        case Categorical(name, options):
            return choose.categorical(name, options)
        case Integer(name, low, high, step, log):
            return choose.integer(name, low, high, step=step, log=log)
        case Real(name, low, high, log):
            return choose.real(name, low, high, log=log)
