"""Fractional repetition: workers in groups, each member of a group sends the same plain sum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .base import Code, Floats, Mask, Weights


class FractionalRepetition(Code):
    """The 0/1 code of Tandon et al. (2017, section 3.1), for any n and s.

    The workers make floor(n / (s + 1)) groups of at least s + 1 consecutive workers, the data as many
    chunks. One reply a group decodes, so many patterns of more than s stragglers do too. Where s + 1
    divides n the load is (s + 1)/n, the least there is; elsewhere it is 1/floor(n / (s + 1)).
    """

    name = "fractional-repetition"

    def __init__(self, n: int, s: int) -> None:
        groups = max(1, n // max(1, s + 1))
        super().__init__(n, s, np.full(groups, 1 / groups))
        self.groups = groups
        self.group_of: NDArray[np.int64] = np.repeat(
            np.arange(groups), [len(part) for part in np.array_split(np.arange(n), groups)]
        )
        self._starts = np.searchsorted(self.group_of, np.arange(groups))

    @property
    def matrix(self) -> Floats:
        return np.eye(self.groups)[self.group_of]

    def row(self, worker: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
        return (int(self.group_of[worker]),), (1.0,)

    @property
    def loads(self) -> Floats:
        return np.full(self.n, 1 / self.groups)

    def covered(self, replied: Mask) -> NDArray[np.bool_]:
        """Tell for each group whether one of its members has replied, shape (groups,)."""
        return np.logical_or.reduceat(replied, self._starts)

    def decodable(self, replied: Mask) -> bool:
        return bool(self.covered(replied).all())

    def solve(self, replied: Mask) -> Weights:
        values = np.zeros(self.n)
        here = np.flatnonzero(replied)
        _, first = np.unique(self.group_of[here], return_index=True)
        values[here[first]] = 1
        return Weights(values, 0.0 if len(first) == self.groups else 1.0)

    def approximate(self, replied: Mask) -> Weights:
        """Drop the groups without a reply and scale the others up: unbiased if groups are alike."""
        plain = self._weights(replied)
        covered = int(np.count_nonzero(plain.values))
        values = plain.values * (self.groups / max(covered, 1))
        return Weights(values, self._residual(values))
