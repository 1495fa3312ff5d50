"""Which scheme a session uses: the one that was asked for, or the one that its rounds so far favour."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

from .codes.base import Floats
from .schemes import Scheme
from .selection import Decision, Plan, Predicted, Selector, probes
from .simulation import Costs
from .waiting import Wait

log = logging.getLogger(__name__)

SPAN = 16
"""Rounds by which a change is told."""
CHANGE = 1.5
"""Ratio of median durations that is one."""


def has_changed(durations: Sequence[float]) -> bool:
    """Tell whether rounds last otherwise than they did when the scheme was chosen."""
    if len(durations) < 2 * SPAN:
        return False
    ratio = median(durations[-SPAN:]) / max(median(durations[:SPAN]), 1e-9)
    return not 1 / CHANGE <= ratio <= CHANGE


@dataclass(frozen=True)
class Chosen:
    """A scheme to use from a drained boundary on, how its rounds wait, and why."""

    scheme: Scheme
    wait: Wait
    reason: str


class Planner(ABC):
    """Chooses schemes. A switch happens when no job is under way."""

    @abstractmethod
    def choose(self, models: int, workers: int) -> Chosen:
        """What to use from now on, for so many models and workers."""

    def record(  # noqa: B027
        self, shares: Mapping[int, Floats], seconds: Floats, duration: float, decode: float
    ) -> None:
        """Hear of a round: by model, the shares of its job that workers computed; reply times (n,), NaN where
        it ended before the reply; its duration; seconds of decoding. All by code position.
        """

    def retire(self, model: int) -> None:  # noqa: B027
        """Hear that a model has ended."""

    @property
    def due(self) -> bool:
        """Whether another scheme is to be used, so that no new job should be issued."""
        return False


class Fixed(Planner):
    """One scheme for the number of workers and of models."""

    def __init__(self, make: Callable[[int, int], Scheme], wait: Wait) -> None:
        self._make = make
        self._wait = wait

    def choose(self, models: int, workers: int) -> Chosen:
        """The scheme."""
        return Chosen(self._make(workers, models), self._wait, "asked for")


class Auto(Planner):
    """Probes with uncoded and lightly coded rounds, then takes what a replay of them favours.

    Decisions are made in a thread, from time to time and when a model has ended; meanwhile rounds go on.
    With another number of workers it begins anew.

    Args:
        n: workers.
        models: how many train at once at the beginning.
        probe: rounds of each probing plan.
        every: rounds between two decisions.
    """

    def __init__(self, n: int, models: int, probe: int, every: int) -> None:
        self._models = models
        self._probe, self._every = probe, every
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="orchestrate-select")
        self._begin(n)

    def _begin(self, n: int) -> None:
        self._n = n
        self._selector = Selector(n, self._models - 1, horizon=self._every)
        self._probes = probes(n)
        self._plan, self._reason = self._probes[0], "probe: reply times without a code"
        self._rounds = 0  # with this plan, or since the last decision
        self._durations: list[float] = []  # of the rounds since the last decision
        self._settling: int | None = None  # rounds until a change is judged
        self._decoding: list[float] = []
        self._deciding: Future[Decision] | None = None
        self._known: Sequence[Predicted] = ()  # what the last decision knew, the fastest first

    def choose(self, models: int, workers: int) -> Chosen:
        """The plan that is due."""
        if workers != self._n:
            self._begin(workers)
        elif self._probes and self._rounds >= self._probe:
            self._probes.pop(0)
            if self._probes:
                self._plan, self._reason = self._probes[0], "probe: reply times at another load"
            else:
                self._take(self._decide().result())
            self._rounds = 0
        elif self._deciding is not None and self._deciding.done():
            self._take(self._deciding.result())
            self._deciding = None
        if self._plan.make(self._n).delay >= models:
            fitting = [one.plan for one in self._known if one.delay < models]
            self._plan = fitting[0] if fitting else Plan("gc-frc", {"s": min(1, self._n - 1)})
            self._reason = f"only {models} models are left"
        return Chosen(self._plan.make(self._n), self._plan.wait, self._reason)

    def record(self, shares: Mapping[int, Floats], seconds: Floats, duration: float, decode: float) -> None:
        """Keep a round, and begin to decide when it is time."""
        if self._decoding:  # not the first round, in which processes start
            self._selector.record(shares, seconds, duration)
        self._decoding.append(decode)
        self._durations.append(duration)
        self._rounds += 1
        if self._probes or self._deciding is not None:
            return
        if self._settling is None and has_changed(self._durations):
            self._settling = SPAN // 2  # half of what is looked at is from before the change
        elif self._settling:
            self._settling -= 1
        if self._settling == 0:
            self._selector.forget(SPAN)
        if self._settling == 0 or self._rounds >= self._every:
            self._deciding = self._decide()
            self._rounds = 0

    def retire(self, model: int) -> None:
        """Decide anew, for those that are left."""
        self._models = max(1, self._models - 1)
        self._selector.retire(model)
        self._rounds = max(self._rounds, 0 if self._probes else self._every)

    @property
    def due(self) -> bool:
        if self._probes:
            return self._rounds >= self._probe
        if self._deciding is None or not self._deciding.done():
            return False
        decision = self._deciding.result()
        if decision.switch:
            return True
        self._hear(decision)
        self._deciding = None
        return False

    def _decide(self) -> Future[Decision]:
        self._durations.clear()
        self._settling = None
        recent = sorted(self._decoding[-self._every :])
        self._selector.costs = Costs(decode=recent[len(recent) // 2])
        self._selector.most_delay = self._models - 1
        return self._pool.submit(self._selector.decide, self._plan)

    def _take(self, decision: Decision) -> None:
        self._plan, self._reason = decision.plan, decision.reason
        self._hear(decision)

    def _hear(self, decision: Decision) -> None:
        self._known = decision.report.best if decision.report else ()
        log.info("gradient coding: %s: %s", decision.plan, decision.reason)
