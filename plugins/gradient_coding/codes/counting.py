"""A stand-in for any (n, s) code in simulations, where nothing is encoded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .base import Code, Floats, Mask, Weights


class Counting(Code):
    """Loads of a cyclic code, and its promise taken at its word: any n - s replies decode.

    It has no coefficients: use it where only times matter.
    """

    name = "counting"

    def __init__(self, n: int, s: int) -> None:
        super().__init__(n, s, np.full(n, 1 / n))

    @property
    def matrix(self) -> NDArray[np.inexact]:
        raise NotImplementedError("a Counting code has no coefficients: it is for simulations")

    @property
    def loads(self) -> Floats:
        return np.full(self.n, (self.s + 1) / self.n)

    def decodable(self, replied: Mask) -> bool:
        return int(np.count_nonzero(replied)) >= self.n - self.s

    def solve(self, replied: Mask) -> Weights:
        raise NotImplementedError("a Counting code has no coefficients: it is for simulations")
