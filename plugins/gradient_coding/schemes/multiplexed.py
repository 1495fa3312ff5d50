"""M-SGC: each round works on several jobs at once, repeating what was lost and coding the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..codes import Code, FractionalRepetition
from ..codes.base import Floats, Mask
from ..stragglers.models import Arbitrary, Bursty
from .base import Closed, Decoding, Part, Scheme, Term

NONE = -1


@dataclass(slots=True)
class _Job:
    """What has arrived of a job.

    `slot_of` (n, K) is the slot in which a worker's own chunk arrived, or NONE; `owed` (n,) counts a
    worker's own chunks that were attempted in rounds before this one and have not arrived; `coded`
    (B, n) says which coded replies of each group have. `again` (n,) is the own chunk that a worker
    attempts again in the open round, or NONE.
    """

    slot_of: NDArray[np.int16]
    owed: NDArray[np.int64]
    coded: NDArray[np.bool_]
    again: NDArray[np.int64]


class Multiplexed(Scheme):
    """Multiplexed sequential gradient coding (Krishnan et al., 2023, section 3.2).

    A job has W - 1 + B slots, one a round. K = W - 1 chunks are each worker's own: it computes them in
    the first K slots, and what was lost once more in the B slots after them. In a later slot, a worker
    that owes nothing sends its coded task of that slot's group of chunks, which an (n, lam)-GC
    protects. Job t decodes at the end of round t + W - 2 + B. It survives (B, W, lam)-bursty patterns
    (where B < W) and (B, W - 1 + B, lam)-arbitrary ones. With lam = n there are no coded chunks.

    All mini-tasks cost the same. With cyclic codes that is the paper's load, (lam + 1)(W - 1 + B) /
    (n (B + K (lam + 1))); with fractional repetition it is (W - 1 + B) / (n K + B floor(n / (lam + 1))),
    the same where lam + 1 divides n.

    Args:
        n: Workers.
        B: Rounds in which a worker may straggle, of those that a job lasts.
        W: Window of the straggler model, at least 2 rounds.
        lam: Distinct stragglers in a window, lambda in the paper.
        code: An (n, lam) code; fractional repetition by default. None of it is used with lam = n.

    Raises:
        ValueError: parameters for which there is no such scheme.
    """

    name = "m-sgc"

    def __init__(self, n: int, B: int, W: int, lam: int, code: Code | None = None) -> None:
        super().__init__(n)
        if B < 1 or W < 2:
            raise ValueError(f"M-SGC needs B >= 1 and W >= 2, not B={B}, W={W}")
        if not 0 <= lam <= n:
            raise ValueError(f"M-SGC needs 0 <= lambda <= n, not lambda={lam} of {n} workers")
        self.B, self.W, self.lam = B, W, lam
        self.K = W - 1
        self.slots = self.K + B
        self.delay = self.slots - 1
        self.messages = self.slots
        self.code = None if lam == n else code if code is not None else FractionalRepetition(n, lam)
        groups = 0.0 if self.code is None else B / self.code.load
        self.task_load = 1 / (n * self.K + groups)
        self.load = self.slots * self.task_load
        own = np.full(n * self.K, self.task_load)
        coded = [] if self.code is None else [self.code.fractions * (self.task_load / self.code.load)] * B
        self.fractions = np.concatenate([own, *coded])
        self._own_loads: Floats = np.full(n, self.task_load)
        self._coded_loads: Floats = (
            np.zeros(n) if self.code is None else self.code.loads * (self.task_load / self.code.load)
        )
        model = Bursty(B, W, lam) if B < W else Arbitrary(B, self.slots, lam)
        self._window = model.begin(n)
        self._jobs: dict[int, _Job] = {}
        self._decodable: dict[int, _Job] = {}
        self._working: Mask = np.zeros(n, dtype=bool)
        self._everyone = np.arange(n)

    @property
    def parameters(self) -> Mapping[str, int]:
        return {"B": self.B, "W": self.W, "lambda": self.lam}

    @property
    def pending(self) -> tuple[int, ...]:
        return tuple(self._jobs)

    def parts(self, worker: int) -> tuple[Part, ...]:
        found: list[Part] = []
        for number, job in self._jobs.items():
            slot = self.round - number
            chunk = slot if slot < self.K else int(job.again[worker])
            if chunk != NONE:
                found.append(Part(number, slot, (worker * self.K + chunk,), (1.0,)))
            elif self.code is not None:
                first = self.n * self.K + (slot - self.K) * len(self.code.fractions)
                chunks, coefficients = self.code.row(worker)
                found.append(Part(number, slot, tuple(first + each for each in chunks), coefficients))
        return tuple(found)

    def conforms(self, replied: Mask) -> bool:
        return self._window.admits(self._working & ~replied) and self.feasible(replied)

    def feasible(self, replied: Mask) -> bool:
        return all(self._can_finish(job, self.round - number, replied) for number, job in self._jobs.items())

    def _can_finish(self, job: _Job, slot: int, replied: Mask) -> bool:
        """Tell whether a job decodes in time after this slot if no later one has stragglers."""
        left = self.slots - 1 - slot
        if slot < self.K:
            owed = job.owed + (~replied & (job.slot_of[:, slot] == NONE))
        else:
            again = job.again != NONE
            owed = job.owed - (replied & again & (job.slot_of[self._everyone, job.again] == NONE))
            if self.code is not None and not self.code.decodable(
                job.coded[slot - self.K] | (replied & ~again)
            ):
                return False
        if owed.max() > min(self.B, left):
            return False
        # In the next coded slot only those who owe nothing send a coded task. The pending own slots
        # before it change nothing: what is owed stays owed until then.
        return self.code is None or not left or self.code.decodable(owed == 0)

    def bank(self, worker: int, part: Part) -> bool:
        job = self._jobs.get(part.job)
        if job is None:
            return False
        if part.chunks[0] < self.n * self.K:
            chunk = part.chunks[0] - worker * self.K
            if job.slot_of[worker, chunk] != NONE:
                return False
            job.slot_of[worker, chunk] = part.slot
            if chunk < self.round + (not self.is_open) - part.job:  # attempted in a round that is over
                job.owed[worker] -= 1
            return True
        group = part.slot - self.K
        if job.coded[group, worker]:
            return False
        job.coded[group, worker] = True
        return True

    def decode(self, job: int) -> Decoding:
        state = self._decodable.pop(job)
        terms = [Term(worker, int(slot), 1.0) for worker, slots in enumerate(state.slot_of) for slot in slots]
        residual = 0.0
        if self.code is not None:
            for group, replied in enumerate(state.coded):
                weights = self.code.decode(replied)
                residual = max(residual, weights.residual)
                terms += [
                    Term(int(worker), self.K + group, float(weights.values[worker].real))
                    for worker in np.flatnonzero(weights.values)
                ]
        return Decoding(job, tuple(terms), residual)

    def discard(self, job: int) -> None:
        self._jobs.pop(job, None)
        self._decodable.pop(job, None)

    def _assign(self, new: bool) -> Mapping[int, Floats]:
        if new:
            self._jobs[self.round] = _Job(
                np.full((self.n, self.K), NONE, dtype=np.int16),
                np.zeros(self.n, dtype=np.int64),
                np.zeros((self.B if self.code is not None else 0, self.n), dtype=bool),
                np.full(self.n, NONE, dtype=np.int64),
            )
        shares: dict[int, Floats] = {}
        for number, job in self._jobs.items():
            if self.round - number < self.K:
                shares[number] = self._own_loads
            else:
                lost = job.slot_of == NONE
                job.again = np.where(job.owed > 0, lost.argmax(axis=1), NONE)
                shares[number] = np.where(job.owed > 0, self.task_load, self._coded_loads)
        self._working = sum(shares.values(), np.zeros(self.n)) > 0
        return shares

    def _close(self, replied: Mask) -> Closed:
        stragglers = self._working & ~replied
        self._window.add(stragglers)
        ready: list[int] = []
        for number, job in self._jobs.items():
            slot = self.round - number
            self._file(job, slot, replied)
            if slot >= self.K - 1 and self._complete(job):
                ready.append(number)
        for number in ready:
            self._decodable[number] = self._jobs.pop(number)
        return Closed(self.round, stragglers, tuple(ready))

    def _file(self, job: _Job, slot: int, replied: Mask) -> None:
        if slot < self.K:
            own = job.slot_of[:, slot]
            own[replied & (own == NONE)] = slot
            job.owed += own == NONE
            return
        again = replied & (job.again != NONE)
        who = np.flatnonzero(again & (job.slot_of[self._everyone, job.again] == NONE))
        job.slot_of[who, job.again[who]] = slot
        job.owed[who] -= 1
        if self.code is not None:
            job.coded[slot - self.K] |= replied & (job.again == NONE)

    def _complete(self, job: _Job) -> bool:
        if job.owed.any():
            return False
        return self.code is None or all(self.code.decodable(replied) for replied in job.coded)
