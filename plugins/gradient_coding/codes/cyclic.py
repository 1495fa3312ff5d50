"""Cyclic codes: worker i holds chunks i, i + 1, ..., i + s (mod n), for any n and s.

Their load is (s + 1)/n whether or not s + 1 divides n, but their coefficients are real numbers that
grow with s. Use them with 64-bit sums; `FractionalRepetition` is the default everywhere.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .base import Code, Floats, Mask, Weights

DRAWS = 20
"""Random codes from which the best conditioned one is taken."""


class RandomCyclic(Code):
    """The randomised code of Tandon et al. (2017, algorithm 2), the best conditioned of some draws.

    All rows of B lie in the null space of a random s x n matrix H with H 1 = 0, and any n - s of
    them span it. Rows are scaled to a largest entry of 1: H fixes each one only up to a factor.

    Args:
        n: Workers, and chunks.
        s: Stragglers tolerated.
        seed: Makes the draws; equal seeds give equal codes.
        draws: How many codes to choose from by their condition number.
        H: The matrix itself, shape (s, n), instead of a random one; rows then start with 1, unscaled.
    """

    name = "random-cyclic"

    def __init__(self, n: int, s: int, seed: int = 0, draws: int = DRAWS, H: Floats | None = None) -> None:
        super().__init__(n, s, np.full(n, 1 / n))
        self.arguments |= {"seed": seed, "draws": draws} if H is None else {"H": np.asarray(H).tolist()}
        if H is not None:
            self._matrix = _rows(np.asarray(H, dtype=float), n, s)
        else:
            self._matrix = _best(n, s, seed, draws)
        # One particular solution of a B = 1, and all that may be added to it: a basis of the left
        # null space, s vectors. Per pattern only the stragglers' rows of it are solved for.
        left, values, _ = np.linalg.svd(self._matrix)
        self.condition = float(values[0] / values[n - s - 1])
        self._null: Floats = left[:, n - s :]
        self._whole: Floats = np.asarray(np.linalg.lstsq(self._matrix.T, np.ones(n))[0], dtype=np.float64)

    @property
    def matrix(self) -> Floats:
        return self._matrix

    def approximate(self, replied: Mask) -> Weights:
        return self.least_squares(replied)

    def solve(self, replied: Mask) -> Weights:
        gone = np.flatnonzero(~replied)
        shift = np.linalg.lstsq(self._null[gone], -self._whole[gone])[0] if len(gone) else np.zeros(self.s)
        values = self._whole + self._null @ shift
        values[gone] = 0
        return Weights(values, self._residual(values))


class CyclicMDS(Code):
    """The deterministic code of Raviv et al. ("Gradient Coding from Cyclic MDS Codes and Expander
    Graphs", 2020, section 3): the rows of B are the cyclic shifts of a polynomial's coefficients, with
    s consecutive n-th roots of unity as its roots.

    Real when n - s is odd, else complex. Excellent for scattered stragglers; for many contiguous ones
    in a large code the weights explode, and `decodable` says no: permute the workers.
    """

    name = "cyclic-mds"

    def __init__(self, n: int, s: int) -> None:
        super().__init__(n, s, np.full(n, 1 / n))
        start = (n - s + 1) // 2  # the run that is symmetric about n/2, where there is one
        roots = np.exp(2j * np.pi * np.arange(start, start + s) / n)
        row: NDArray[np.inexact] = np.zeros(n, dtype=complex)
        row[: s + 1] = np.poly(roots)
        row /= np.abs(row).max()
        if (n - s) % 2:
            row = row.real
        self._matrix = np.array([np.roll(row, shift) for shift in range(n)])

    @property
    def matrix(self) -> NDArray[np.inexact]:
        return self._matrix

    @property
    def is_real(self) -> bool:
        """Whether the coefficients are real."""
        return not np.iscomplexobj(self._matrix)

    def solve(self, replied: Mask) -> Weights:
        return self.least_squares(replied)


@lru_cache(maxsize=32)
def _best(n: int, s: int, seed: int, draws: int) -> Floats:
    """The draw with the smallest condition number over its n - s non-zero singular values."""
    rng = np.random.default_rng(seed)
    chosen, least = np.eye(n), np.inf
    for _ in range(draws if s else 0):
        H = rng.standard_normal((s, n))
        H[:, -1] = -H[:, :-1].sum(axis=1)
        rows = _rows(H, n, s)
        rows /= np.abs(rows).max(axis=1, keepdims=True)
        values = np.linalg.svd(rows, compute_uv=False)
        condition = values[0] / values[n - s - 1]
        if condition < least:
            chosen, least = rows, condition
    return chosen


def _rows(H: Floats, n: int, s: int) -> Floats:
    """Make B from H: row i is 1 at chunk i, and orthogonal to H within its s + 1 chunks."""
    B = np.zeros((n, n))
    for i in range(n):
        support = (i + np.arange(s + 1)) % n
        B[i, support[0]] = 1
        B[i, support[1:]] = -np.linalg.solve(H[:, support[1:]], H[:, support[0]])
    return B
