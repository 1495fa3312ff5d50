"""SR-SGC: gradient coding whose missing replies are asked for again, B rounds later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..codes import Code, FractionalRepetition
from ..codes.base import Floats, Mask
from ..stragglers.models import Bursty, BurstyOrPerRound
from .base import Closed, Decoding, Part, Scheme, Term


@dataclass(slots=True)
class _Job:
    """Who has returned the task of a job, and in which slot: 0 or B."""

    got: Mask
    slot: np.ndarray = field(repr=False)


class SelectiveRepetition(Scheme):
    """Selective-repetition sequential gradient coding (Krishnan et al., 2023, section 3.1).

    An (n, s)-GC with s = ceil(B lam / (W - 1 + B)); job t decodes at the end of round t + B at the
    latest. It survives every pattern in which each W rounds are (B, W, lam)-bursty or have at most s
    stragglers a round.

    With a count code, as many workers repeat job t - B's task as are missing to n - s. With fractional
    repetition, exactly one missing member of each uncovered group does: were all to repeat it, the
    repeaters would be missing from job t in turn, and the promise would break.

    Args:
        n: Workers.
        B: Rounds after which a job's missing replies are repeated. Divides W - 1.
        W: Window of the straggler model, in rounds.
        lam: Distinct stragglers in a window, lambda in the paper.
        code: An (n, s) code; fractional repetition by default.

    Raises:
        ValueError: parameters for which there is no such scheme.
    """

    name = "sr-sgc"

    def __init__(self, n: int, B: int, W: int, lam: int, code: Code | None = None) -> None:
        super().__init__(n)
        if B < 1 or W <= 1 or (W - 1) % B:
            raise ValueError(f"SR-SGC needs B >= 1 that divides W - 1, not B={B}, W={W}")
        if not 0 <= lam <= n:
            raise ValueError(f"SR-SGC needs 0 <= lambda <= n, not lambda={lam} of {n} workers")
        self.B, self.W, self.lam = B, W, lam
        self.s = repetitions(B, W, lam)
        if self.s >= n:
            raise ValueError(f"SR-SGC with B={B}, W={W}, lambda={lam} would need {self.s + 1} copies on {n}")
        self.code = code if code is not None else FractionalRepetition(n, self.s)
        self.fractions = self.code.fractions
        self.delay = B
        self.load = self.code.load
        self._loads = self.code.loads
        self._window = BurstyOrPerRound(Bursty(B, W, lam), self.s).begin(n)
        self._jobs: dict[int, _Job] = {}
        self._decodable: dict[int, _Job] = {}
        self._redo: Mask = np.zeros(n, dtype=bool)
        self._working: Mask = self._redo
        self._straggled: np.ndarray = np.zeros(n, dtype=np.int64)  # in which round last

    @property
    def parameters(self) -> Mapping[str, int]:
        return {"B": self.B, "W": self.W, "lambda": self.lam, "s": self.s}

    @property
    def pending(self) -> tuple[int, ...]:
        return tuple(self._jobs)

    def parts(self, worker: int) -> tuple[Part, ...]:
        if self._redo[worker]:
            return (Part(self.round - self.B, self.B, *self.code.row(worker)),)
        if self.round in self._jobs:
            return (Part(self.round, 0, *self.code.row(worker)),)
        return ()

    def conforms(self, replied: Mask) -> bool:
        return self._window.admits(self._working & ~replied) and self.feasible(replied)

    def feasible(self, replied: Mask) -> bool:
        old = self._jobs.get(self.round - self.B)
        return old is None or self.code.decodable(old.got | (self._redo & replied))

    def bank(self, worker: int, part: Part) -> bool:
        job = self._jobs.get(part.job)
        if job is None or job.got[worker]:
            return False
        job.got[worker] = True
        job.slot[worker] = part.slot
        return True

    def decode(self, job: int) -> Decoding:
        state = self._decodable.pop(job)
        weights = self.code.decode(state.got)
        terms = tuple(
            Term(int(worker), int(state.slot[worker]), float(weights.values[worker].real))
            for worker in np.flatnonzero(weights.values)
        )
        return Decoding(job, terms, weights.residual)

    def discard(self, job: int) -> None:
        self._jobs.pop(job, None)
        self._decodable.pop(job, None)
        if job == self.round - self.B:
            self._redo = np.zeros(self.n, dtype=bool)

    def _assign(self, new: bool) -> Mapping[int, Floats]:
        old = self._jobs.get(self.round - self.B)
        self._redo = np.zeros(self.n, dtype=bool)
        if old is not None:
            self._redo[self._repeaters(old.got)] = True
        if new:
            self._jobs[self.round] = _Job(np.zeros(self.n, dtype=bool), np.zeros(self.n, dtype=np.int64))
        self._working = np.ones(self.n, dtype=bool) if new else self._redo
        again = {} if old is None else {self.round - self.B: np.where(self._redo, self._loads, 0.0)}
        return again | ({self.round: np.where(self._redo, 0.0, self._loads)} if new else {})

    def _repeaters(self, got: Mask) -> np.ndarray:
        """Workers that repeat a job's task, those first that haven't straggled for longest."""
        missing = np.flatnonzero(~got)
        missing = missing[np.argsort(self._straggled[missing], kind="stable")]
        if isinstance(self.code, FractionalRepetition):
            groups = self.code.group_of[missing]
            _, first = np.unique(groups, return_index=True)
            return missing[first[~self.code.covered(got)[groups[first]]]]
        return missing[: max(0, len(missing) - self.s)]

    def _close(self, replied: Mask) -> Closed:
        stragglers = self._working & ~replied
        self._window.add(stragglers)
        self._straggled[stragglers] = self.round
        if self.round in self._jobs:
            self._jobs[self.round].got |= replied & ~self._redo
        old = self._jobs.get(self.round - self.B)
        if old is not None:
            repeated = self._redo & replied & ~old.got
            old.got |= repeated
            old.slot[repeated] = self.B
        ready = tuple(number for number, job in self._jobs.items() if self.code.decodable(job.got))
        for number in ready:
            self._decodable[number] = self._jobs.pop(number)
        return Closed(self.round, stragglers, ready)


def repetitions(B: int, W: int, lam: int) -> int:
    """S of the code underneath: ceil(B lam / (W - 1 + B))."""
    return -(-B * lam // (W - 1 + B))
