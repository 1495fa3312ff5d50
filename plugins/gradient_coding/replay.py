"""Replays a journal: the same masks through fresh state machines must decode the same jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from .codes import make
from .codes.base import Floats, Mask
from .records import Journal, Round, Use
from .schemes import Assignment, GradientCoding, Multiplexed, Part, Scheme, SelectiveRepetition
from .schemes.coding import Approximation
from .selection import Selector, create
from .stragglers.profile import Profile


@dataclass(frozen=True)
class Step:
    """A replayed round: its record, what came out otherwise than recorded ("" if nothing did), and by
    model the shares of its job that workers computed, (workers,).
    """

    record: Round
    difference: str
    shares: Mapping[int, Floats]


def replay(journal: Journal) -> Iterator[Step]:
    """Drive fresh schemes by a journal's masks, round by round."""
    machine: _Machine | None = None
    for entry in journal.entries:
        if isinstance(entry, Use):
            machine = _Machine(entry)
        else:
            assert machine is not None
            yield machine.step(entry)


def rebuild(use: Use) -> Scheme:
    """The scheme of a journal's entry, with the very code that it had."""
    described = dict(use.scheme)
    name, n = described["scheme"], described["workers"]
    code = make(described["code"]) if described.get("code") else None
    if name in ("gc", "gc-frc"):
        allowed = described.get("approximation")
        return GradientCoding(n, described["s"], code, Approximation(**allowed) if allowed else None)
    if name in ("sr-sgc", "m-sgc"):
        kind = SelectiveRepetition if name == "sr-sgc" else Multiplexed
        return kind(n, described["B"], described["W"], described["lambda"], code)
    return create(name, n, described)


class _Machine:
    """A scheme that is driven by records."""

    def __init__(self, use: Use) -> None:
        self._scheme = rebuild(use)
        self._place = list(use.place)
        self._position = {worker: position for position, worker in enumerate(use.place)}
        self._parts: dict[tuple[int, int, int], Part] = {}
        self._models: dict[int, int] = {}  # by job
        self._wrong = ""
        code, recorded = getattr(self._scheme, "code", None), use.scheme.get("code")
        if code is not None and (found := code.describe()) != recorded:
            self._wrong = (
                f"the code is {found}, recorded is {recorded}: another version of NumPy or its BLAS?"
            )

    def step(self, record: Round) -> Step:
        """Replay a round."""
        if self._scheme.is_open:
            return Step(record, "not replayed: a round before it could not end", {})
        for job in record.given_up:
            self._scheme.discard(job)
        assignment = self._scheme.assign(record.job is not None)
        if record.job is not None and record.model is not None:
            self._models[record.job] = record.model
        shares = self._shares(assignment, len(record.arrivals))
        wrong, self._wrong = self._wrong, ""
        return Step(record, self._compare(assignment, record) or wrong, shares)

    def _shares(self, assignment: Assignment, workers: int) -> dict[int, Floats]:
        found: dict[int, Floats] = {}
        for job, share in assignment.shares.items():
            found[self._models[job]] = by_worker = np.zeros(workers)
            by_worker[self._place] = share
        return found

    def _compare(self, assignment: Assignment, record: Round) -> str:
        scheme, place = self._scheme, self._place
        for position, worker in enumerate(place):
            for part in scheme.parts(position):
                self._parts[worker, part.job, part.slot] = part
        for job in record.dropped:
            scheme.discard(job)
        for worker, job, slot in (*record.early, *record.banked):
            useful = scheme.bank(self._position[worker], self._parts[worker, job, slot])
            if not useful and job not in record.dropped:
                return f"the early or late part of worker {worker} for job {job} is of no use"
        replied: Mask = ~assignment.working | [record.arrivals[worker] is not None for worker in place]
        if not (scheme.feasible(replied) or scheme.approximates(replied)):
            return "the round may not close with these replies"
        closed = scheme.close(replied)
        found = sorted(place[position] for position in np.flatnonzero(closed.stragglers))
        if found != record.stragglers:
            return f"stragglers are {found}, recorded are {record.stragglers}"
        decoded = [one.job for one in record.decoded]
        if list(closed.decodable) != decoded:
            return f"jobs {list(closed.decodable)} decode, recorded are {decoded}"
        for one in record.decoded:
            decoding = scheme.decode(one.job)
            if (len(decoding.terms), decoding.residual) != (one.terms, one.residual):
                return f"job {one.job} decodes from {len(decoding.terms)} vectors, recorded are {one.terms}"
        return ""


def select(
    journal: Journal, most_delay: int, slope: float | None = None, window: int | None = None
) -> Selector:
    """A selection that knows a journal's rounds, or the last ones of them in which everybody worked.

    Not the first one: processes start in it.
    """
    steps = list(replay(journal))
    workers = len(steps[0].record.arrivals) if steps else 1
    selector = Selector(workers, most_delay, slope=slope, window=window or max(1, len(steps)))
    for step in steps[1:]:
        seconds = np.array([np.nan if time is None else time for time in step.record.arrivals])
        selector.record(step.shares, seconds, step.record.seconds)
    return selector


def profile(journal: Journal, slope: float | None = None) -> Profile:
    """Reply times (rounds, workers), to simulate other schemes with. A reply that a round didn't wait for
    is estimated (see `Selector.profile`).

    Raises:
        ValueError: there is no round in which everybody worked.
    """
    return select(journal, 0, slope).profile()
