"""Candidates as points in a unit cube, for Gaussian processes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...core import Candidate, Categorical, Choice, SearchSpace, Value
from ...core.draw import probe

Points = NDArray[np.float64]


@dataclass(frozen=True)
class _Category:
    """One column an option: 1 where it was chosen."""

    options: tuple[Value, ...]

    @property
    def width(self) -> int:
        return len(self.options)

    def write(self, value: Value, cells: Points) -> None:
        for index, option in enumerate(self.options):
            if type(option) is type(value) and option == value:
                cells[index] = 1.0


@dataclass(frozen=True)
class _Number:
    """A number in its range, or its logarithm in that of logarithms, scaled to [0, 1]."""

    low: float
    high: float
    log: bool

    @property
    def width(self) -> int:
        return 1

    def write(self, value: Value, cells: Points) -> None:
        assert isinstance(value, int | float)
        low, high, here = self.low, self.high, float(value)
        if self.log:
            low, high, here = math.log(low), math.log(high), math.log(here)
        cells[0] = (here - low) / (high - low) if high > low else 0.5


@dataclass(frozen=True)
class _Slot:
    column: int
    cells: _Category | _Number
    conditional: bool


class Encoding:
    """The columns of a space: those of every choice that random walks or past candidates met.

    Categories are one-hot; integers and reals one column, in their range, or its logarithm where the
    choice says log. A choice that not every candidate makes has one more column, 1 where it is made; its
    others are 0 where it isn't, so that branches are apart in the cube and share what they have in
    common. Columns are added only by `learn`.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._met: dict[str, Choice] = {}
        counts: Counter[str] = Counter()
        for choice in probe(space):
            self._add(choice)
            counts[choice.name] += 1
        every = max(counts.values(), default=0)
        self._always = {name for name, count in counts.items() if count == every}
        self._lay_out()

    @property
    def width(self) -> int:
        """Number of columns."""
        return self._width

    def learn(self, candidate: Candidate) -> None:
        """Take note of a candidate's choices, which may be of a branch that no random walk took."""

        def pick(choice: Choice) -> Value:
            self._add(choice)
            return candidate[choice.name]

        before = dict(self._met)
        self._space.generate(pick)
        missing = self._always - set(candidate)
        if missing or before != self._met:
            self._always -= missing
            self._lay_out()

    def encode(self, candidates: Sequence[Mapping[str, Value]]) -> Points:
        """Encode candidates: (n, width). Choices that were never learnt are left out."""
        table = np.zeros((len(candidates), self._width))
        for row, candidate in zip(table, candidates, strict=True):
            for name, value in candidate.items():
                slot = self._slots.get(name)
                if slot is None:
                    continue
                end = slot.column + slot.cells.width
                slot.cells.write(value, row[slot.column : end])
                if slot.conditional:
                    row[end] = 1.0
        return table

    def _add(self, choice: Choice) -> None:
        known = self._met.get(choice.name)
        if known is None or isinstance(choice, Categorical) or isinstance(known, Categorical):
            self._met.setdefault(choice.name, choice)
        elif choice.low < known.low or choice.high > known.high:  # its bounds depend on earlier answers
            wider = {"low": min(choice.low, known.low), "high": max(choice.high, known.high)}
            self._met[choice.name] = type(choice)(choice.name, **wider, log=choice.log)  # type: ignore[arg-type]

    def _lay_out(self) -> None:
        self._slots: dict[str, _Slot] = {}
        column = 0
        for name, choice in self._met.items():
            conditional = name not in self._always
            cells = (
                _Category(choice.options)
                if isinstance(choice, Categorical)
                else _Number(choice.low, choice.high, choice.log)
            )
            self._slots[name] = _Slot(column, cells, conditional)
            column += cells.width + conditional
        self._width = column
