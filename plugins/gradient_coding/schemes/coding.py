"""Gradient coding within a round: the job of a round decodes at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..codes import Code, FractionalRepetition
from ..codes.base import Floats, Mask
from .base import Closed, Decoding, Part, Scheme, Term


@dataclass(frozen=True)
class Approximation:
    """How inexact a gradient may be when the exact one keeps everybody waiting.

    `deviation` is the largest mean squared deviation of the chunks' coefficients from 1 (with
    fractional repetition, one group of G lost is about 1/G); `budget` is how many jobs may be inexact.
    """

    deviation: float
    budget: int


class GradientCoding(Scheme):
    """(n, s)-GC (Tandon et al., 2017). With fractional repetition, which is the default code, a round
    is feasible as soon as every group is covered, however many stragglers there are, and the scheme is
    called gc-frc.

    Args:
        n: Workers.
        s: Stragglers that the code tolerates.
        code: An (n, s) code; fractional repetition by default.
        approximation: Allows inexact gradients, from `Wait.patience` on. None: never.
    """

    name = "gc-frc"
    delay = 0

    def __init__(
        self, n: int, s: int, code: Code | None = None, approximation: Approximation | None = None
    ) -> None:
        super().__init__(n)
        self.s = s
        self.code = code if code is not None else FractionalRepetition(n, s)
        if not isinstance(self.code, FractionalRepetition):
            self.name = "gc"
        self.fractions = self.code.fractions
        self.load = self.code.load
        self.approximation = approximation
        self.spent = 0
        """Inexact jobs so far; set it back to 0 to grant the budget anew."""
        self._loads = self.code.loads
        self._job: int | None = None
        self._replied: dict[int, Mask] = {}

    @property
    def parameters(self) -> Mapping[str, int]:
        return {"s": self.s}

    @property
    def pending(self) -> tuple[int, ...]:
        return () if self._job is None else (self._job,)

    def parts(self, worker: int) -> tuple[Part, ...]:
        return () if self._job is None else (Part(self._job, 0, *self.code.row(worker)),)

    def conforms(self, replied: Mask) -> bool:
        return self._job is None or (self.n - int(replied.sum()) <= self.s and self.code.decodable(replied))

    def feasible(self, replied: Mask) -> bool:
        return self._job is None or self.code.decodable(replied)

    def approximates(self, replied: Mask) -> bool:
        allowed = self.approximation
        if self._job is None or allowed is None or self.spent >= allowed.budget or not replied.any():
            return False
        return self.code.deviation(self.code.approximate(replied)) <= allowed.deviation

    def decode(self, job: int) -> Decoding:
        replied = self._replied.pop(job)
        exact = self.code.decodable(replied)
        weights = self.code.decode(replied) if exact else self.code.approximate(replied)
        used = np.flatnonzero(weights.values)
        terms = tuple(Term(int(worker), 0, weights.values[worker].item()) for worker in used)
        return Decoding(job, terms, weights.residual, exact)

    def discard(self, job: int) -> None:
        self._replied.pop(job, None)
        if self._job == job:
            self._job = None

    def _assign(self, new: bool) -> Mapping[int, Floats]:
        self._job = self.round if new else None
        return {self.round: self._loads} if new else {}

    def _close(self, replied: Mask) -> Closed:
        if self._job is None:
            return Closed(self.round, np.zeros(self.n, dtype=bool), ())
        job, self._job = self._job, None
        self._replied[job] = replied.copy()
        self.spent += not self.code.decodable(replied)
        return Closed(self.round, ~replied, (job,))
