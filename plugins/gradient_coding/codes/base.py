"""What every gradient code has: a matrix B, and decoding weights for each set of replies.

Worker i sends l_i = sum_j B[i, j] g_j, the g_j being *sums* over the samples of chunk j. From the
replies of a set F the master needs weights a, zero outside F, with a B = 1; then sum_i a_i l_i is
the full gradient (Tandon et al., "Gradient Coding", 2017, section 3).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ....core.errors import OrchestrateError

Mask: TypeAlias = NDArray[np.bool_]
"""Shape (n,): which workers have replied."""

Floats: TypeAlias = NDArray[np.float64]

TOLERANCE = 1e-6
"""The largest residual with which weights may be used."""

REMEMBERED = 1024


class UndecodableError(OrchestrateError, ArithmeticError):
    """These replies don't determine the gradient: wait for another one."""


@dataclass(frozen=True)
class Weights:
    """How replies are added up: `values` (n,), zero where there is no reply.

    `residual` is the largest entry of |a B - 1|; 0 for a code of zeros and ones. Complex codes have
    complex values.
    """

    values: NDArray[np.inexact]
    residual: float


class Code(ABC):
    """An (n, s) gradient code: any n - s of the n replies determine the gradient.

    `fractions` (chunks,) is each chunk's part of a job's samples, `load` the largest part that one
    worker computes. `arguments` are those that make it again. Weights are kept for the patterns seen last.
    """

    name: ClassVar[str]

    def __init__(self, n: int, s: int, fractions: Floats) -> None:
        if not 0 <= s < n:
            raise ValueError(f"a code over {n} workers tolerates 0 to {n - 1} stragglers, not {s}")
        self.n = n
        self.s = s
        self.fractions = fractions
        self.arguments: dict[str, Any] = {"n": n, "s": s}
        self._seen: OrderedDict[bytes, Weights] = OrderedDict()

    @property
    @abstractmethod
    def matrix(self) -> NDArray[np.inexact]:
        """B, shape (n, chunks)."""

    def describe(self) -> dict[str, Any]:
        """Its name, `arguments` and a digest of its matrix: what makes it again (see `make`), bit for bit."""
        digest = sha256(np.ascontiguousarray(self.matrix).tobytes()).hexdigest()[:16]
        return {"name": self.name, **self.arguments, "digest": digest}

    @property
    def loads(self) -> Floats:
        """Part of a job's samples that each worker computes, shape (n,)."""
        return (self.matrix != 0) @ self.fractions

    @property
    def load(self) -> float:
        """The largest of `loads`."""
        return float(self.loads.max())

    def row(self, worker: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Chunks that `worker` computes, and their coefficients.

        Raises:
            ValueError: the coefficients are complex, and no gradient is.
        """
        row = self.matrix[worker]
        if np.iscomplexobj(row):
            raise ValueError(
                f"{type(self).__name__}({self.n}, {self.s}) has complex coefficients: choose s so that n - s "
                "is odd, or another code"
            )
        chunks = np.flatnonzero(row)
        return tuple(chunks.tolist()), tuple(row[chunks].tolist())

    @abstractmethod
    def solve(self, replied: Mask) -> Weights:
        """Weights for these replies, the best there are; the residual tells whether they do."""

    def decodable(self, replied: Mask) -> bool:
        """Tell whether these replies determine the gradient, numerically too."""
        return int(replied.sum()) >= self.n - self.s and self._weights(replied).residual <= TOLERANCE

    def decode(self, replied: Mask) -> Weights:
        """Weights with which these replies add up to the gradient.

        Raises:
            UndecodableError: no weights do, to `TOLERANCE`.
        """
        weights = self._weights(replied)
        if not weights.residual <= TOLERANCE:
            missing = self.n - int(replied.sum())
            raise UndecodableError(
                f"{missing} of {self.n} replies are missing and the best weights leave a residual of "
                f"{weights.residual:.2g}; the code is made for {self.s} stragglers. Wait for another reply."
            )
        return weights

    def approximate(self, replied: Mask) -> Weights:
        """Weights for fewer replies than decode: those with the least sum of squared deviations.

        `deviation` measures what they miss.
        """
        return self._weights(replied)

    def least_squares(self, replied: Mask) -> Weights:
        """Weights of the least Euclidean norm of a B - 1 that these replies allow."""
        here = np.flatnonzero(replied)
        values = np.zeros(self.n, dtype=self.matrix.dtype)
        if len(here):
            values[here] = np.linalg.lstsq(self.matrix[here].T, np.ones(len(self.fractions)))[0]
        return Weights(values, self._residual(values))

    def deviation(self, weights: Weights) -> float:
        """Mean squared deviation of the chunks' coefficients from 1: 0 is exact, 1 is nothing at all."""
        return float((np.abs(weights.values @ self.matrix - 1) ** 2).mean())

    def _weights(self, replied: Mask) -> Weights:
        key = np.packbits(replied).tobytes()
        found = self._seen.get(key)
        if found is None:
            found = self._seen[key] = self.solve(replied)
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        else:
            self._seen.move_to_end(key)
        return found

    def _residual(self, weights: NDArray[np.inexact]) -> float:
        return float(np.abs(weights @ self.matrix - 1).max())
