"""Drives a scheme with real vectors: what the tests of schemes share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrate.plugins.gradient_coding.schemes import Decoding, Part, Scheme
from orchestrate.plugins.gradient_coding.stragglers import Model

WIDTH = 2
Vector = NDArray[np.float64]


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

    def gradients(self, job: int) -> Vector:
        """Partial gradients of a job, (chunks, WIDTH)."""
        rng = np.random.default_rng([7, job])
        return rng.integers(-9, 10, (len(self.scheme.fractions), WIDTH)).astype(float)

    def round(self, stragglers: Sequence[bool] | None, new: bool = True, *, force: bool = False) -> bool:
        """One round; tells whether it could close with these stragglers (None: there are none)."""
        if not self.scheme.is_open:
            assignment = self.scheme.assign(new)
            self.working = assignment.working
            if assignment.job:
                self.issued.append(assignment.job)
        replied = np.ones(self.scheme.n, dtype=bool) if stragglers is None else ~np.asarray(stragglers)
        replied |= ~self.working
        if not force and not self.scheme.feasible(replied):
            return False
        sent = {worker: self.scheme.parts(int(worker)) for worker in np.flatnonzero(replied & self.working)}
        closed = self.scheme.close(replied)
        for worker, parts in sent.items():
            for part in parts:
                self.send(worker, part, closed.round)
        for job in closed.decodable:
            self.check(self.scheme.decode(job))
        return True

    def send(self, worker: int, part: Part, in_round: int) -> None:
        gradients = self.gradients(self._weights_of(part, in_round))
        self._replies[part.job, worker, part.slot] = (
            np.asarray(part.coefficients) @ gradients[list(part.chunks)]
        )

    def check(self, decoding: Decoding) -> None:
        total = np.zeros(WIDTH)
        for term in decoding.terms:
            total += term.weight * self._replies[decoding.job, term.worker, term.slot]
        truth = self.gradients(decoding.job).sum(axis=0)
        self.worst = max(self.worst, float(np.abs(total - truth).max()))
        assert decoding.exact
        self.decoded[decoding.job] = decoding

    def drain(self) -> None:
        """Rounds without new jobs and stragglers, until nothing is pending."""
        for _ in range(self.scheme.delay):
            if self.scheme.pending:
                assert self.round(None, new=False)
        assert not self.scheme.pending


def patterns(model: Model, n: int, rounds: int) -> Iterator[NDArray[np.bool_]]:
    """Every pattern (rounds, n) that a model admits, found by its causal checker."""
    masks = [np.array(bits, dtype=bool) for bits in itertools.product([0, 1], repeat=n)]

    def grow(past: list[Any]) -> Iterator[NDArray[np.bool_]]:
        window = model.begin(n)
        for mask in past:
            window.add(mask)
        for mask in masks:
            if window.admits(mask):
                if len(past) + 1 == rounds:
                    yield np.array([*past, mask])
                else:
                    yield from grow([*past, mask])

    return grow([])
