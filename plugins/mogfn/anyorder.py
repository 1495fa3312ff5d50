"""A search space whose choices are made in any order: a graph with many walks to a candidate.

A choice can be made once those that decide whether there is one are made. It can be taken back as long
as no choice that was made depends on it. Which depends on which is found by walking the space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...core import Candidate, Choice, SearchSpace, SpaceError, SpecError, Value
from .environment import Bools, Floats, Graph, Integers
from .slots import Division, survey

TRIES = 8
"""Random walks beyond each option, so that what it doesn't decide is seen with it."""

Path = dict[str, int]
"""Which part of each choice a walk took."""
Needs = dict[str, frozenset[int]]
"""Choices that have to be made, and the parts of each that will do."""


@dataclass(frozen=True)
class _Column:
    """A choice's place in states and actions."""

    index: int
    offset: int
    count: int


class AnyOrder(Graph):
    """States hold, for each choice, 0 or 1 + the part taken; an action makes one choice.

    *Stop* is allowed once no choice is left to be made. A real number is the middle of its cell.

    Raises:
        SpecError: a choice with more parts than a decision has, with bounds that vary, or whose
            condition isn't that each of some choices takes one of some values.
    """

    def __init__(self, space: SearchSpace, division: Division | None = None) -> None:
        self.space = space
        self.division = division or Division()
        counts: dict[str, int] = {}
        paths: list[Path] = []
        for walk in survey(space, self.division, TRIES).paths:
            paths.append({})
            for name, taken in walk.items():
                if len(taken) > 1:
                    raise SpecError(_refusal(space, name, f"has more than {self.division.width} values"))
                for _, count, part in taken:
                    if counts.setdefault(name, count) != count:
                        raise SpecError(_refusal(space, name, "has bounds that vary"))
                    paths[-1][name] = part
        offsets = np.cumsum([0, *counts.values()]).tolist()
        self._columns = {
            name: _Column(index, offsets[index], count) for index, (name, count) in enumerate(counts.items())
        }
        self._owner = np.repeat(np.arange(len(counts)), np.array([*counts.values()], np.int64))
        self._part = np.arange(len(self._owner)) - np.array(offsets[:-1], np.int64)[self._owner]
        self._needs = {name: needs(space, name, paths) for name in counts}
        self._tables = [
            [
                (self._columns[other].index, _table(self._columns[other].count, parts))
                for other, parts in one.items()
            ]
            for one in self._needs.values()
        ]
        self._depends = np.zeros((len(counts), len(counts)), np.bool_)
        """Whether the column's choice needs the row's."""
        for column, one in enumerate(self._tables):
            for row, _ in one:
                self._depends[row, column] = True
        self._below = closure(self._depends)
        """Whether the column's choice is the row's or needs it, if only through others."""
        self.actions = len(self._owner) + 1
        self.features = len(self._owner) + len(counts)

    def first(self) -> Integers:
        return np.zeros(len(self._columns), np.int64)

    def encode(self, states: Integers) -> Floats:
        return np.concatenate([self._taken(states), self._open(states)], axis=1).astype(np.float32)

    def allowed(self, states: Integers) -> Bools:
        ready = self._open(states)
        return np.column_stack([ready[:, self._owner], ~ready.any(axis=1)])

    def origins(self, states: Integers) -> Bools:
        needed = (states > 0) @ self._depends.T
        back = self._taken(states) & ~needed[:, self._owner]
        return np.column_stack([back, np.zeros(len(states), np.bool_)])

    def step(self, states: Integers, actions: Integers, sign: int = 1) -> Integers:
        moved = states.copy()
        moved[np.arange(len(states)), self._owner[actions]] = 1 + self._part[actions] if sign > 0 else 0
        return moved

    def log_ways(self, states: Integers) -> NDArray[np.float64]:
        """The orders of the choices made, each after those that it needs.

        Where these form a forest, there are n! / Π (size of the part below each choice) of them (Knuth,
        The Art of Computer Programming 3, section 5.1.4, exercise 20).
        """
        from scipy.special import gammaln

        made = states > 0
        if not is_forest(self._below):
            return super().log_ways(made.astype(np.int64))  # values don't matter
        sizes = np.where(made, made @ self._below.T.astype(np.int64), 1)
        return gammaln(made.sum(axis=1) + 1) - np.log(sizes).sum(axis=1)

    def candidate(self, state: Integers) -> Candidate:
        def part(name: str, edges: Sequence[float]) -> int:
            column = self._columns.get(name)
            if column is None or column.count != len(edges) - 1 or not state[column.index]:
                raise SpaceError(_refusal(self.space, name, "has a condition that wasn't found"))
            taken.add(name)
            return int(state[column.index]) - 1

        def pick(choice: Choice) -> Value:
            return self.division.answer(choice, part, lambda: 0.5)

        taken = set[str]()
        made = self.space.generate(pick)
        for name, column in self._columns.items():
            if state[column.index] and name not in taken:
                raise SpaceError(_refusal(self.space, name, "has a condition that wasn't found"))
        return made

    def state(self, candidate: Candidate) -> Integers:
        state = self.first()

        def pick(choice: Choice) -> Value:
            value = candidate[choice.name]
            for name, count, part in self.division.parts(choice, value):
                column = self._columns.get(name)
                if column is None or column.count != count:
                    raise SpaceError(_refusal(self.space, name, "has a condition that wasn't found"))
                state[column.index] = 1 + part
            return value

        self.space.generate(pick)
        return state

    def _taken(self, states: Integers) -> Bools:
        """Which parts are taken: (n, actions - 1)."""
        return states[:, self._owner] == self._part + 1

    def _open(self, states: Integers) -> Bools:
        """Which choices can be made: (n, choices)."""
        ready = states == 0
        for column, one in enumerate(self._tables):
            for row, table in one:
                ready[:, column] &= table[states[:, row]]
        return ready


def needs(space: SearchSpace, name: str, paths: Sequence[Path]) -> Needs:
    """What a choice depends on: the fewest choices before it that explain every walk, found greedily.

    Raises:
        SpecError: none do.
    """
    among = [path for path in paths if name in path]
    left = [path for path in paths if name not in path]
    before = [other for other in among[0] if all(_precedes(other, name, path) for path in among)]
    parts = {other: frozenset(path[other] for path in among) for other in before}
    found: Needs = {}
    while left:
        kept = {
            other: [path for path in left if path.get(other) in allowed] for other, allowed in parts.items()
        }
        best = min(kept, key=lambda other: len(kept[other]), default=None)
        if best is None or len(kept[best]) == len(left):
            raise SpecError(_refusal(space, name, "depends on others in another way than by their values"))
        found[best], left = parts[best], kept[best]
    return found


def closure(depends: Bools) -> Bools:
    """Whether the column is the row, or depends on it, directly or through others: (n, n)."""
    found = depends | np.eye(len(depends), dtype=np.bool_)
    while True:
        more = found @ found
        if (more == found).all():
            return found
        found = more


def is_forest(below: Bools) -> bool:
    """Whether all that a choice needs stand in one line."""
    comparable = below | below.T
    return all(comparable[np.ix_(needed, needed)].all() for needed in below.T)


def _precedes(other: str, name: str, path: Path) -> bool:
    for one in path:
        if one in (other, name):
            return one == other != name
    return False


def _table(count: int, parts: frozenset[int]) -> NDArray[np.bool_]:
    """Whether a state's entry will do: (1 + count,)."""
    table = np.zeros(1 + count, np.bool_)
    table[[1 + part for part in parts]] = True
    return table


def _refusal(space: SearchSpace, name: str, why: str) -> str:
    return (
        f"choice {name!r} of space {space.name!r} {why}, so choices can't be made in any order: "
        "leave out `order: any`"
    )
