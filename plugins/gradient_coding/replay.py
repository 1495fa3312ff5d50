"""Replays a journal: the same masks through fresh state machines must decode the same jobs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .codes import CyclicMDS, RandomCyclic
from .codes.base import Mask
from .records import Journal, Round, Use
from .schemes import GradientCoding, Part, Scheme
from .schemes.coding import Approximation
from .selection import Selector, create
from .stragglers.profile import Profile


@dataclass(frozen=True)
class Step:
    """A replayed round: its record, and what came out otherwise than recorded ("" if nothing did)."""

    record: Round
    difference: str


def replay(journal: Journal) -> Iterator[Step]:
    """Drive fresh schemes by a journal's masks, round by round."""
    scheme: Scheme | None = None
    place: list[int] = []
    parts: dict[tuple[int, int, int], Part] = {}
    for entry in journal.entries:
        if isinstance(entry, Use):
            scheme, place, parts = rebuild(entry), list(entry.place), {}
        else:
            assert scheme is not None
            yield Step(entry, _round(scheme, place, parts, entry))


def rebuild(use: Use) -> Scheme:
    """The scheme of a journal's entry."""
    described = dict(use.scheme)
    name, n, allowed = described["scheme"], described["workers"], described.get("approximation")
    if name not in ("gc", "gc-frc"):
        return create(name, n, described)
    s = described["s"]
    code = CyclicMDS(n, s) if described["code"] == "CyclicMDS" else None
    if described["code"] == "RandomCyclic":
        code = RandomCyclic(n, s)
    return GradientCoding(n, s, code, Approximation(**allowed) if allowed else None)


def _round(scheme: Scheme, place: list[int], parts: dict[tuple[int, int, int], Part], record: Round) -> str:
    for job in record.given_up:
        scheme.discard(job)
    assignment = scheme.assign(record.job is not None)
    for position, worker in enumerate(place):
        for part in scheme.parts(position):
            parts[worker, part.job, part.slot] = part
    for job in record.dropped:
        scheme.discard(job)
    position_of = {worker: position for position, worker in enumerate(place)}
    for worker, job, slot in (*record.early, *record.banked):
        if not scheme.bank(position_of[worker], parts[worker, job, slot]):
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


def profile(journal: Journal, slope: float | None = None) -> Profile:
    """Reply times (rounds, workers), to simulate other schemes with. A reply that a round didn't wait for
    is estimated (see `Selector.profile`).

    Raises:
        ValueError: there is no round in which everybody worked.
    """
    rounds = journal.rounds
    selector = Selector(len(rounds[0].arrivals) if rounds else 1, 0, slope=slope, window=max(1, len(rounds)))
    for record in rounds:
        seconds = np.array([np.nan if time is None else time for time in record.arrivals])
        selector.record(np.array(record.loads), seconds, record.seconds)
    return selector.profile()
