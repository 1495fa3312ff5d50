"""Gradient coding for partial stragglers: what a slow worker has finished counts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..codes.base import Floats, Mask
from .base import Decoding, Part, Term
from .coding import GradientCoding


class PartialCoding(GradientCoding):
    """Partial-straggler coding of Tandon et al. (2017, section 5), with fractional repetition.

    Each worker holds `p` partitions. The first p - s - 1 are its own and uncoded, the others a part
    of an (n, s)-GC. It sends the sum of its own, then its coded part: a round ends when everybody's first
    message is there, and a second one of each group. So s workers may be slower than the others by a
    factor of up to p/(p - s - 1), but none may be silent. The load is p/(n (p - s)), where s + 1 divides n:
    less than (s + 1)/n.

    Args:
        n: Workers.
        s: Partial stragglers that it bears.
        p: Partitions of a worker, at least s + 2.

    Raises:
        ValueError: parameters for which there is no such scheme.
    """

    name = "gc-partial"
    messages = 2

    def __init__(self, n: int, s: int, p: int) -> None:
        super().__init__(n, s)
        if p < s + 2:
            raise ValueError(f"partial-straggler coding needs p >= s + 2 partitions, not p={p} with s={s}")
        self.p = p
        # A worker's own partitions are p - s - 1 of n (p - s) equal ones, coded are the other n.
        own, coded = (p - s - 1) / (n * (p - s)), 1 / (p - s)
        self.fractions = np.concatenate([np.full(n, own), coded * self.code.fractions])
        self.load = own + coded * self.code.load
        self._loads: Floats = own + coded * self.code.loads
        self.milestones = np.array([own / self.load, 1.0])
        self._first: Mask = np.zeros(n, dtype=bool)

    @property
    def parameters(self) -> Mapping[str, int]:
        return {"s": self.s, "p": self.p}

    def parts(self, worker: int) -> tuple[Part, ...]:
        if self._job is None:
            return ()
        chunks, coefficients = self.code.row(worker)
        coded = tuple(self.n + chunk for chunk in chunks)
        return Part(self._job, 0, (worker,), (1.0,)), Part(self._job, 1, coded, coefficients)

    def conforms(self, replied: Mask) -> bool:
        return self.feasible(replied)

    def feasible(self, replied: Mask) -> bool:
        return self._job is None or (bool((self._first | replied).all()) and self.code.decodable(replied))

    def covers(self, done: NDArray[np.bool_]) -> bool:
        return self._job is None or (bool(done[:, 0].all()) and self.code.decodable(done[:, 1]))

    def take(self, done: NDArray[np.bool_]) -> None:
        self._first |= done[:, 0]

    def bank(self, worker: int, part: Part) -> bool:
        if part.job != self._job or part.slot or self._first[worker]:
            return False
        self._first[worker] = True
        return True

    def decode(self, job: int) -> Decoding:
        own = (Term(worker, 0, 1.0) for worker in range(self.n))
        coded = super().decode(job)
        second = (Term(term.worker, 1, term.weight) for term in coded.terms)
        return Decoding(job, (*own, *second), coded.residual)

    def _assign(self, new: bool) -> Mapping[int, Floats]:
        self._first = np.zeros(self.n, dtype=bool)
        return super()._assign(new)
