"""Candidates as a model sees them: features that say what is alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...core import Candidate, Categorical, Choice, SearchSpace, Value
from .environment import Floats
from .slots import Slot, fraction, option_index

KNOTS = 5
"""Hats over the range of a number: a model that is linear in them is piecewise linear in the number."""


class Describer:
    """Features of finished candidates; those of inactive choices are 0.

    A category is one of its options. A number is its place in its range, and how near that is to each
    of `KNOTS` even marks, so that neighbours are alike, unlike options.
    """

    def __init__(self, space: SearchSpace, slots: Mapping[str, Slot]) -> None:
        self._space = space
        self._columns: dict[str, tuple[int, int]] = {}
        """First column and number of options, by choice."""
        self._categories: dict[str, Categorical] = {}
        self.features = 0
        for name, slot in slots.items():
            choice, _, level = name.rpartition("/")
            if choice and level.isdigit() and choice in self._columns:
                continue  # a finer decision on the same number
            self._columns[name] = (self.features, slot.count)
            self.features += KNOTS + 1 if slot.ordered else slot.count

    def describe(self, candidates: Sequence[Candidate]) -> Floats:
        """Describe candidates: (n, features)."""
        made = np.zeros((len(candidates), self.features), np.float32)
        for row, candidate in zip(made, candidates, strict=True):
            if not self._categories.keys() >= candidate.keys():
                self._walk(row, candidate)
                continue
            for name, value in candidate.items():
                self._fill(row, self._categories[name], value)
        return made

    def _walk(self, row: Floats, candidate: Candidate) -> None:
        """Let the space say what was chosen from. Categories stay the same, and are remembered."""

        def pick(choice: Choice) -> Value:
            if isinstance(choice, Categorical):
                self._categories[choice.name] = choice
            self._fill(row, choice, candidate[choice.name])
            return candidate[choice.name]

        self._space.generate(pick)

    def _fill(self, row: Floats, choice: Choice, value: Value) -> None:
        first, count = self._columns.get(choice.name, (0, 0))
        if not count:
            return
        if not isinstance(choice, Categorical):
            place = fraction(choice, value)
            marks = np.arange(KNOTS) / (KNOTS - 1)
            row[first : first + KNOTS] = np.maximum(0, 1 - np.abs(place - marks) * (KNOTS - 1))
            row[first + KNOTS] = place
        elif len(choice.options) <= count:
            row[first + option_index(choice, value)] = 1
