"""Drives schemes without workers: what the tests of schemes share."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrate.plugins.gradient_coding.schemes import (
    Decoding,
    Multiplexed,
    Part,
    Scheme,
    SelectiveRepetition,
)

WIDTH = 2
Mask = NDArray[np.bool_]
Vector = NDArray[np.float64]


def masks(n: int) -> list[Mask]:
    """Every set of n workers."""
    return [np.array(bits, dtype=bool) for bits in itertools.product([False, True], repeat=n)]


def only(n: int, *workers: int) -> Mask:
    """The set of these workers."""
    mask = np.zeros(n, dtype=bool)
    mask[list(workers)] = True
    return mask


class Run:
    """Rounds of a scheme whose partial gradients are whole numbers: every sum has one right answer.

    A worker computes a part with the weights of the job that the part names. `weights_of` stands for
    what goes wrong when it takes another job's.
    """

    def __init__(self, scheme: Scheme, weights_of: Callable[[Part, int], int] | None = None) -> None:
        self.scheme = scheme
        self.issued: list[int] = []
        self.decoded: dict[int, Decoding] = {}
        self.worst = 0.0
        self._replies: dict[tuple[int, int, int], Vector] = {}
        self._weights_of = weights_of or (lambda part, _: part.job)
        self.working = np.zeros(scheme.n, dtype=bool)

    def gradients(self, job: int) -> Vector:
        """Partial gradients of a job, (chunks, WIDTH)."""
        rng = np.random.default_rng([7, job])
        return rng.integers(-9, 10, (len(self.scheme.fractions), WIDTH)).astype(float)

    def open(self, new: bool = True) -> None:
        assignment = self.scheme.assign(new)
        self.working = assignment.working
        if assignment.job:
            self.issued.append(assignment.job)

    def round(self, stragglers: Mask | Sequence[bool] | None, new: bool = True) -> bool:
        """One round; tells whether it could close with these stragglers (None: there are none)."""
        if not self.scheme.is_open:
            self.open(new)
        n = self.scheme.n
        replied = ~self.working | (np.ones(n, dtype=bool) if stragglers is None else ~np.asarray(stragglers))
        if not self.scheme.feasible(replied):
            return False
        for worker in np.flatnonzero(replied & self.working):
            for part in self.scheme.parts(int(worker)):
                self.send(int(worker), part)
        for job in self.scheme.close(replied).decodable:
            self.check(self.scheme.decode(job))
        return True

    def send(self, worker: int, part: Part) -> None:
        """Compute a part and keep the reply."""
        gradients = self.gradients(self._weights_of(part, self.scheme.round))
        reply = np.asarray(part.coefficients) @ gradients[list(part.chunks)]
        self._replies[part.job, worker, part.slot] = reply

    def check(self, decoding: Decoding) -> None:
        """Add the replies up and compare with the whole gradient."""
        total = np.zeros(WIDTH)
        for term in decoding.terms:
            total += term.weight * self._replies[decoding.job, term.worker, term.slot]
        truth = self.gradients(decoding.job).sum(axis=0)
        self.worst = max(self.worst, float(np.abs(total - truth).max()))
        self.decoded[decoding.job] = decoding
        assert decoding.exact

    def drain(self) -> None:
        """Rounds without new jobs and stragglers, until nothing is pending."""
        for _ in range(self.scheme.delay):
            if self.scheme.pending:
                assert self.round(None, new=False)
        assert not self.scheme.pending


# Every state that a scheme can reach ------------------------------------------------------------------


class Lost(AssertionError):
    """A job was not decoded in time, or not to the whole gradient."""


class State:
    """A scheme between two rounds, with what it was sent of the jobs that are pending."""

    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme
        self.sent: dict[tuple[int, int, int], Part] = {}

    def copy(self) -> State:
        memo: dict[int, Any] = {}
        for shared in ("code", "fractions", "_loads", "_own_loads", "_coded_loads", "_everyone"):
            if hasattr(self.scheme, shared):
                memo[id(getattr(self.scheme, shared))] = getattr(self.scheme, shared)
        other = State(copy.deepcopy(self.scheme, memo))
        other.sent = dict(self.sent)
        return other

    def close(self, replied: Mask) -> None:
        """End the open round, and check each gradient by the coefficients of its chunks."""
        scheme = self.scheme
        for worker in np.flatnonzero(replied):
            for part in scheme.parts(int(worker)):
                self.sent[part.job, int(worker), part.slot] = part
        for job in scheme.close(replied).decodable:
            total = np.zeros(len(scheme.fractions))
            for term in scheme.decode(job).terms:
                part = self.sent[job, term.worker, term.slot]
                total[list(part.chunks)] += term.weight * np.asarray(part.coefficients)
            if np.abs(total - 1).max() > 1e-9:
                raise Lost(f"job {job} decodes to the chunks' coefficients {total}")
        if scheme.pending and scheme.pending[0] <= scheme.round - scheme.delay:
            raise Lost(f"job {scheme.pending[0]} is not decoded after round {scheme.round}")
        self.sent = {key: part for key, part in self.sent.items() if key[0] in scheme.pending}

    def key(self, *, model: bool) -> Any:
        """What its future depends on; `model`: the straggler model's memory too."""
        scheme: Any = self.scheme
        jobs: tuple[Any, ...] = ()
        if isinstance(scheme, Multiplexed):
            jobs = tuple(
                (scheme.round - number, (job.slot_of < 0).tobytes(), job.coded.tobytes())
                for number, job in scheme._jobs.items()
            )
        elif isinstance(scheme, SelectiveRepetition):
            ranks = np.unique(scheme._straggled, return_inverse=True)[1]
            jobs = (
                tuple((scheme.round - number, job.got.tobytes()) for number, job in scheme._jobs.items()),
                ranks.tobytes(),
            )
        past = tuple(each.tobytes() for each in scheme._window._rounds) if model else ()
        return jobs, past


def explore(
    scheme: Scheme, allowed: Callable[[Scheme, Mask], bool], *, model: bool, bubbles: bool = True
) -> Iterator[tuple[State, Mask]]:
    """Visit every state that a scheme reaches over patterns of any length, and close each round with
    every set of stragglers that is `allowed`; yields each open round with each set, before it closes.

    `bubbles`: any round may issue no job.

    Raises:
        Lost: a job was not decoded in time, or wrongly.
    """
    sets = masks(scheme.n)
    start = State(scheme)
    seen = {start.key(model=model)}
    frontier = [start]
    while frontier:
        state = frontier.pop()
        for new in (True, False) if bubbles else (True,):
            opened = state.copy()
            working = opened.scheme.assign(new).working
            for stragglers in sets:
                if (stragglers & ~working).any():
                    continue
                yield opened, stragglers
                if allowed(opened.scheme, stragglers):
                    after = opened.copy()
                    try:
                        after.close(~stragglers)
                    except RuntimeError as error:
                        raise Lost(str(error)) from error
                    key = after.key(model=model)
                    if key not in seen:
                        seen.add(key)
                        frontier.append(after)
