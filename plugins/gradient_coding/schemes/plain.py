"""The peers that no code helps: wait for everyone, or go on without the slowest."""

from __future__ import annotations

import numpy as np

from ..codes.base import Mask
from .base import Decoding, Term
from .coding import GradientCoding


class Uncoded(GradientCoding):
    """Each worker computes a share of its own, and every round waits for all."""

    name = "uncoded"

    def __init__(self, n: int) -> None:
        super().__init__(n, 0)


class BackupWorkers(GradientCoding):
    """The first n - `spares` replies make the gradient, the others are dropped (Chen et al.,
    "Revisiting Distributed Synchronous SGD", 2016; TensorFlow's SyncReplicas).

    Not exact: the gradient is that of (n - spares)/n of the batch, scaled up.
    """

    name = "backup"
    exact = False

    def __init__(self, n: int, spares: int) -> None:
        super().__init__(n, 0)
        if not 0 <= spares < n:
            raise ValueError(f"{spares} of {n} workers can't be spare")
        self.spares = spares
        self.coverage = (n - spares) / n

    @property
    def parameters(self) -> dict[str, int]:
        return {"spares": self.spares}

    def conforms(self, replied: Mask) -> bool:
        return self.feasible(replied)

    def feasible(self, replied: Mask) -> bool:
        return self._job is None or int(replied.sum()) >= self.n - self.spares

    def decode(self, job: int) -> Decoding:
        used = np.flatnonzero(self._replied.pop(job))
        weight = self.n / len(used)
        residual = 0.0 if len(used) == self.n else max(1.0, weight - 1)
        terms = tuple(Term(int(worker), 0, weight) for worker in used)
        return Decoding(job, terms, residual, exact=len(used) == self.n)
