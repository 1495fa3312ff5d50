"""The workers of a group as the master knows them: who owes a reply, who gets a fresh process, and who is
left out because there is no room for one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from ...core import LostError, Reply, WorkerGroup
from .quarantine import Finding, Quarantine
from .records import Round

LOOK = 1.0  # seconds between looks at workers that stay silent
LONGER = 10  # times the usual patience, with workers of which none has replied yet
DEATHS = 5  # of one worker in a row, after which it isn't the worker that is ill

log = logging.getLogger(__name__)


class Roster:
    """Keeps count of a group's workers.

    Args:
        group: the workers.
        replace_after: seconds of silence after which one is replaced, and of a missing process after which
            one is left out.
        slow: speed relative to the fastest worker's below which one is replaced too, and of how many tasks.
    """

    def __init__(self, group: WorkerGroup, replace_after: float, slow: tuple[float, int]) -> None:
        self.present = list(range(group.size))
        """Workers that a code counts on."""
        self._group = group
        self._replace_after = replace_after
        self._quarantine = Quarantine(group.size, *slow)
        self._found: list[Finding] = []
        self._apart = False  # chronic stragglers are to get other places
        self._begun: list[float | None] = [None] * group.size  # when what a worker does was sent
        self._deaths = [0] * group.size
        self._slowest = 0.0  # seconds that a whole reply took at most
        _ = group.nodes  # waits for the workers to start
        self._heard = [group.now()] * group.size
        self._vacant: dict[int, float] = {}  # workers without a process, and since when
        self._tried: dict[int, float] = {}  # when one that was left out was last given a fresh one

    # Who takes part --------------------------------------------------------------------------------

    @property
    def changed(self) -> bool:
        """Whether workers are to be left out, counted on again, or given other places."""
        return self._apart or self._expected() != self.present

    def settle(self, seed: int) -> tuple[list[int], str]:
        """Give the worker of each place in a code, and who was left out or taken back, in words."""
        before, self.present = self.present, self._expected()
        self._apart = False
        nodes = [self._group.nodes[worker] for worker in self.present]
        chronic = [index for index, one in enumerate(self.present) if one in self._quarantine.chronic]
        place = [self.present[index] for index in arrange(nodes, seed, chronic)]
        gone, back = (
            sorted({*one} - {*other}) for one, other in ((before, self.present), (self.present, before))
        )
        for worker in gone:
            self._begun[worker] = None
            self._tried[worker] = self._group.now()
        self._group.cancel(gone)
        told = [f"no room for {_named(gone)}"] if gone else []
        told += [f"{_named(back)} back"] if back else []
        for change in told:
            log.warning("gradient coding: %s; %d of %d take part", change, len(place), self._group.size)
        return place, ", ".join(told)

    def gone(self) -> list[int]:
        """Those counted on whose process is missing for longer than one is waited for.

        Raises:
            LostError: nobody has had a process for far longer.
        """
        vacant = self._look()
        if len(vacant) == self._group.size:
            silence = self._group.now() - max(vacant.values())
            if silence > LONGER * self._replace_after:
                raise LostError(f"no worker has had a process for {silence:.0f} s")
        expected = self._expected() if vacant else self.present
        return [worker for worker in self.present if worker not in expected]

    def _expected(self) -> list[int]:
        vacant, latest = self._look(), self._group.now() - self._replace_after
        found = [
            worker
            for worker in range(self._group.size)
            if worker not in vacant or (worker in self.present and vacant[worker] > latest)
        ]
        return found or self.present  # nobody can go on without the others

    def _look(self) -> dict[int, float]:
        absent = self._group.absent
        if absent or self._vacant:
            now = self._group.now()
            self._vacant = {worker: self._vacant.get(worker, now) for worker in absent}
            for worker in self._vacant.keys() - {*self.present}:
                if now - self._tried.get(worker, now) > self._replace_after:
                    self._tried[worker] = now  # what is to start may have been lost with a node
                    self._group.replace(worker)
        return self._vacant

    # Who owes what ---------------------------------------------------------------------------------

    def sent(self, worker: int) -> None:
        """Note that a worker was handed a task."""
        if self._begun[worker] is None:
            self._begun[worker] = self._group.now()

    def heard(self, reply: Reply, now: float, *, busy: bool) -> None:
        """Note that a worker is there; `busy`: another task waits for the end of this one."""
        worker = reply.worker
        self._heard[worker] = now
        if reply.last and (begun := self._begun[worker]) is not None:
            self._begun[worker] = now if busy else None
            if reply.cause != "died" and (found := self._quarantine.record(worker, now - begun)):
                self._found.append(found)
        if reply.cause is None:
            self._deaths[worker] = 0

    # Fresh processes -------------------------------------------------------------------------------

    def replace(self, worker: int, record: Round, why: str, *, needed: bool = True) -> None:
        """Replace a worker that has died.

        Raises:
            LostError: it dies again and again, and is `needed`.
        """
        self._deaths[worker] += 1
        if needed and self._deaths[worker] > DEATHS and worker not in self._vacant:
            raise LostError(f"worker {worker} died {DEATHS} times in a row: {why}")
        self._renew(worker, record)

    def replace_silent(self, record: Round, now: float) -> list[int]:
        """Replace workers that owe a reply and were silent for longer than others need, and then some;
        where all are silent, for far longer, since the work may just take that long. Gives those replaced.

        Raises:
            LostError: a worker that the round waits for is silent again and again.
        """
        arrivals = [time for time in record.arrivals if time is not None]
        self._slowest = max([self._slowest, *arrivals])
        others = bool(arrivals) or max(self._heard) >= now - self._slowest - LOOK
        limit = (self._replace_after + 2 * self._slowest) * (1 if others else LONGER)
        silent = [
            worker
            for worker, begun in enumerate(self._begun)
            if begun is not None
            and worker not in self._vacant
            and now - max(begun, self._heard[worker]) > limit
        ]
        needed = now - record.start > limit  # the round waits for it: the code can't do without
        for worker in silent:
            why = f"it was silent for {now - self._heard[worker]:.0f} s"
            self.replace(worker, record, why, needed=needed)
        return silent

    def replace_chronic(self, record: Round) -> None:
        """Replace workers that are slow all the time; those that stay so get places apart."""
        for found in self._found:
            log.warning("gradient coding: %s; its process is replaced", found)
            self._renew(found.worker, record)
            record.chronic.append(found.worker)
            self._apart = self._apart or found.before > 0
        self._found.clear()

    def _renew(self, worker: int, record: Round) -> None:
        record.replaced.append(worker)
        self._heard[worker] = self._group.now()
        self._begun[worker] = None
        self._group.replace(worker)


def _named(workers: Sequence[int]) -> str:
    return f"worker{'s' if len(workers) > 1 else ''} {', '.join(map(str, workers))}"


def arrange(nodes: Sequence[str], seed: int, chronic: Sequence[int] = ()) -> list[int]:
    """Give the worker of each code position: neighbours on different nodes, in an order of `seed`, and
    chronic stragglers as far apart as can be.

    A slow node is then no run of neighbours, which would take all members of one group.
    """
    generator = np.random.default_rng(seed)
    rows = [
        [int(worker) for worker in generator.permutation(np.flatnonzero(np.asarray(nodes) == node))]
        for node in dict.fromkeys(nodes)
    ]
    rows.sort(key=len, reverse=True)
    place = [row[rank] for rank in range(len(rows[0])) for row in rows if rank < len(row)]
    others = [worker for worker in place if worker not in chronic]
    for rank, worker in enumerate(sorted(chronic)):
        others.insert(rank * len(place) // len(chronic), worker)
    return others
