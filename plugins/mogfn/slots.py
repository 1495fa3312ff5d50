"""How a choice becomes decisions: each picks one of at most `width` parts of what is left.

A category, or a whole number of a short range, is one decision. A long range is halved, so to speak,
`width` ways at a time, coarse to fine. A real number is one decision among `bins` cells of equal
width (in its logarithm, where the choice says so) and then uniform within its cell.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ...core import Candidate, Categorical, Choice, Integer, Real, SearchSpace, Value, replay
from ...core.draw import draw
from ...core.seeds import generator

WIDTH = 32
WALKS = 100
"""Random walks that look for slots."""

Part: TypeAlias = Callable[[str, Sequence[float]], int]
"""Decides: given a slot's name and the n + 1 edges of its n parts, the index of a part."""


@dataclass(frozen=True)
class Slot:
    """A decision's place in the global list of actions: `count` of them from `offset` on."""

    offset: int
    count: int
    ordered: bool


@dataclass(frozen=True)
class Division:
    """Divides choices into decisions."""

    bins: int = 16
    width: int = WIDTH

    def answer(self, choice: Choice, part: Part, inside: Callable[[], float]) -> Value:
        """Answer `choice` by decisions of `part`; `inside` places a real number in its cell, in [0, 1)."""
        match choice:
            case Categorical(options=options):
                return options[_one(part, choice.name, range(len(options) + 1))]
            case Integer(low=low, high=high, step=step):
                first, end, level = 0, (high - low) // step + 1, 0
                while end - first > 1:
                    edges = self._edges(choice, first, end)
                    index = part(_slot(choice.name, level), edges)
                    first, end, level = edges[index], edges[index + 1], level + 1
                return low + step * first
            case Real(low=low, high=high):
                if low == high:
                    return low
                edges = np.linspace(*_ends(choice), self.bins + 1)
                index = part(choice.name, edges.tolist())
                place = edges[index] + inside() * (edges[index + 1] - edges[index])
                return min(max(float(math.exp(place) if choice.log else place), low), high)

    def parts(self, choice: Choice, value: Value) -> list[tuple[str, int, int]]:
        """Tell which decisions lead to `value`: slot, number of parts, index of the part."""
        place = _place(choice, value)
        taken: list[tuple[str, int, int]] = []

        def part(slot: str, edges: Sequence[float]) -> int:
            index = min(bisect_right(edges, place), len(edges) - 1) - 1
            taken.append((slot, len(edges) - 1, index))
            return index

        self.answer(choice, part, lambda: 0.5)
        return taken

    def _edges(self, choice: Integer, first: int, end: int) -> Sequence[int]:
        if end - first <= self.width:
            return range(first, end + 1)
        if choice.log:
            low = choice.low - 0.5
            inner = np.geomspace(low + first, low + end, self.width + 1) - low
        else:
            inner = np.linspace(first, end, self.width + 1)
        return sorted({first, end, *(min(max(round(edge), first), end) for edge in inner.tolist())})


def find_slots(space: SearchSpace, division: Division, known: Iterable[Candidate] = ()) -> Mapping[str, Slot]:
    """Find a space's decisions: on random walks, along each option seen, and in `known` candidates.

    A slot behind a rare conjunction of options can stay unseen. Walks that meet one answer it uniformly.
    """
    found = survey(space, division)
    for candidate in known:
        found.walk(tuple(replay(space, candidate).values()))
    slots: dict[str, Slot] = {}
    offset = 0
    for name, (count, ordered) in found.counts.items():
        slots[name] = Slot(offset, count, ordered)
        offset += count
    return slots


def survey(space: SearchSpace, division: Division, tries: int = 1) -> Survey:
    """Walk at random, then along each option seen, so many times."""
    found = Survey(space, division, tries)
    for _ in range(WALKS):
        found.walk(())
    found.try_each_option()
    return found


class Survey:
    """What walks met."""

    def __init__(self, space: SearchSpace, division: Division, tries: int) -> None:
        self.counts: dict[str, tuple[int, bool]] = {}
        """Most parts seen and whether they are ordered, by slot."""
        self.paths: list[dict[str, list[tuple[str, int, int]]]] = []
        """Each walk's choices, with the decisions that they took."""
        self._space = space
        self._division = division
        self._tries = tries
        self._rng = generator(0)
        self._met: set[tuple[str, type[object], Value]] = set()
        self._todo: list[tuple[Value, ...]] = []

    def walk(self, beginning: Sequence[Value]) -> None:
        """Walk along `beginning`, then at random, and note what is met."""
        made: list[Value] = []
        self.paths.append({})

        def pick(choice: Choice) -> Value:
            value = beginning[len(made)] if len(made) < len(beginning) else draw(choice, self._rng)
            self._note(choice, made, value)
            made.append(value)
            return value

        self._space.generate(pick)

    def try_each_option(self) -> None:
        """Take each option, each number of a short range, and both ends of a long one."""
        while self._todo:
            self.walk(self._todo.pop())

    def _note(self, choice: Choice, made: Sequence[Value], value: Value) -> None:
        parts = self.paths[-1][choice.name] = self._division.parts(choice, value)
        for slot, count, _ in parts:
            most, _ = self.counts.get(slot, (0, False))
            self.counts[slot] = max(most, count), not isinstance(choice, Categorical)
        for option in _landmarks(choice, self._division.width):
            key = (choice.name, type(option), option)
            if key not in self._met:
                self._met.add(key)
                self._todo += [(*made, option)] * self._tries


def _landmarks(choice: Choice, width: int) -> Sequence[Value]:
    """Values that may open another branch: all, if they are few, or both ends of a number."""
    if isinstance(choice, Categorical):
        return choice.options
    values = choice.values
    if values is not None and len(values) <= width:
        return values
    if isinstance(choice, Integer):
        return choice.low, choice.high - (choice.high - choice.low) % choice.step
    return choice.low, choice.high


def option_index(choice: Categorical, value: Value) -> int:
    """Where an option stands in its list; 1, 1.0 and True are three."""
    index = choice.options.index(value)
    while type(choice.options[index]) is not type(value):
        index = choice.options.index(value, index + 1)
    return index


def fraction(choice: Integer | Real, value: Value) -> float:
    """Where a number stands in its range (of logarithms, where the choice says so), in [0, 1]."""
    assert isinstance(value, int | float)
    low, high = float(choice.low), float(choice.high)
    if low == high:
        return 0.0
    if choice.log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _slot(name: str, level: int) -> str:
    return name if level == 0 else f"{name}/{level}"


def _one(part: Part, name: str, edges: Sequence[int]) -> int:
    return part(name, edges) if len(edges) > 2 else 0


def _ends(choice: Real) -> tuple[float, float]:
    return (math.log(choice.low), math.log(choice.high)) if choice.log else (choice.low, choice.high)


def _place(choice: Choice, value: Value) -> float:
    """Where `value` stands among the edges that `answer` offers."""
    if isinstance(choice, Categorical):
        return option_index(choice, value)
    assert isinstance(value, int | float)
    if isinstance(choice, Integer):
        return (value - choice.low) // choice.step
    return math.log(value) if choice.log else value
