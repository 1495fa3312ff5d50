"""When a round ends: the window after the fastest reply, and what is waited for beyond it.

`Rounds` is the master's clockwork over a scheme. It is told when replies arrive, on any clock, and
says when the round may close; a simulation and a cluster use the same object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from .codes.base import Floats, Mask
from .schemes.base import Assignment, Scheme


class Rule(StrEnum):
    """What a round that doesn't fit when its window ends is waited for."""

    EVERYONE = "wait-all"
    """Close if the round conforms to the scheme's straggler model; else wait for every worker."""
    CONFORM = "incremental"
    """Close as soon as the round conforms: late replies are admitted one by one."""
    FEASIBLE = "feasible"
    """Close as soon as every pending job can still decode in time."""


class Cause(StrEnum):
    """Why a round ended when it did."""

    COMPLETE = "complete"
    """Everybody had replied by the end of the window."""
    WINDOW = "window"
    """The window ended, and what was missing could be done without."""
    WAITED = "waited"
    """The window had ended; a later reply made the round fit."""
    GAVE_UP = "gave up"
    """Patience had ended too; the gradient is inexact, as the scheme was allowed to make it."""
    EMPTY = "empty place"
    """It waited for workers whose processes are gone, and no others can take their places: its jobs begin
    anew, with fewer workers."""


@dataclass(frozen=True)
class Wait:
    """A waiting rule. The window ends at (1 + `mu`) times the reply time of the fastest workers.

    With `mu` 0 a round may end at the first moment that it fits. `quantile` says whose reply time is
    taken: 0 the fastest worker's, 0.05 that of the fastest twentieth, which one freak can't shrink.
    After (1 + `patience`) times it, a scheme that may approximate does so rather than wait on.
    """

    rule: Rule = Rule.FEASIBLE
    mu: float = 1.0
    quantile: float = 0.0
    patience: float = np.inf

    def fits(self, scheme: Scheme, replied: Mask) -> bool:
        """Tell whether the open round may close with these replies."""
        if self.rule is Rule.FEASIBLE:
            return scheme.feasible(replied)
        return scheme.conforms(replied)

    def reference(self, times: Sequence[float] | Floats, workers: int) -> float | None:
        """The reply time that sets the window, of sorted reply times; None while there are too few of
        those of all `workers` that have something to do.
        """
        rank = int(self.quantile * (workers - 1))
        return float(times[rank]) if rank < len(times) else None


@dataclass(frozen=True, slots=True)
class Ended:
    """A round that is over. Times are seconds after its start; masks have shape (n,).

    `window` is when the window ended (infinite if too few replied to tell), `waited` how long the
    round stayed open after it.
    """

    round: int
    job: int | None
    duration: float
    fastest: float
    window: float
    waited: float
    cause: Cause
    stragglers: Mask
    decodable: tuple[int, ...]


class Rounds:
    """Runs a scheme's rounds against a clock.

    `begin` a round, `observe` each reply that is whole, and ask `may_close` after each one and at the
    times `look_again` and `give_up`; then `close`.
    """

    def __init__(self, scheme: Scheme, wait: Wait | None = None) -> None:
        self.scheme = scheme
        self.wait = wait or Wait()
        self.replied: Mask = np.zeros(scheme.n, dtype=bool)
        self._assignment: Assignment | None = None
        self._times: list[float] = []
        self._began = 0.0

    def begin(self, now: float, new: bool = True) -> Assignment:
        """Open a round; without `new`, one that issues no job. Idle workers count as replied."""
        self._assignment = self.scheme.assign(new)
        self._began = now
        self._times = []
        self._workers = int(self._assignment.working.sum())
        self.replied = ~self._assignment.working
        return self._assignment

    def observe(self, worker: int, now: float) -> None:
        """Note that `worker` has replied to this round, with all its parts."""
        if not self.replied[worker]:
            self.replied[worker] = True
            self._times.append(now - self._began)

    @property
    def look_again(self) -> float | None:
        """When the window ends, on the clock; None while nobody can tell."""
        return self._after(self.wait.mu)

    @property
    def give_up(self) -> float | None:
        """When patience ends, on the clock; None while nobody can tell, or if it never does."""
        return self._after(self.wait.patience) if np.isfinite(self.wait.patience) else None

    def _after(self, factor: float) -> float | None:
        reference = self.wait.reference(self._times, self._workers)
        return None if reference is None else self._began + (1 + factor) * reference

    def may_close(self, now: float) -> bool:
        """Tell whether the round may end now."""
        if self.replied.all():
            return True
        end = self.look_again
        if end is None or now < end:
            return False
        if self._gives_up(now):
            return True
        if self.wait.rule is Rule.EVERYONE and any(time > end - self._began for time in self._times):
            return False  # it did not conform when the window ended
        return self.wait.fits(self.scheme, self.replied)

    def _gives_up(self, now: float) -> bool:
        end = self.give_up
        return end is not None and now >= end and self.scheme.approximates(self.replied)

    def close(self, now: float) -> Ended:
        """End the round.

        Raises:
            RuntimeError: a job could not be decoded in time any more.
        """
        assert self._assignment is not None
        end = self.look_again
        window = np.inf if end is None else end - self._began
        complete = bool(self.replied.all())
        gave_up = not self.scheme.feasible(self.replied)
        closed = self.scheme.close(self.replied)
        duration = now - self._began if self._workers else 0.0
        waited = max(0.0, duration - window)
        cause = Cause.WAITED if waited > 0 else Cause.COMPLETE if complete else Cause.WINDOW
        if gave_up:
            cause = Cause.GAVE_UP
        fastest = self._times[0] if self._times else 0.0
        return Ended(
            closed.round,
            self._assignment.job,
            duration,
            fastest,
            float(window),
            waited,
            cause,
            closed.stragglers,
            closed.decodable,
        )
