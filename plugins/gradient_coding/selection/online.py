"""Selection while a run goes on: reply times of the last rounds, and a switch only where it pays."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..codes.base import Floats, Mask
from ..simulation import Costs
from ..stragglers.profile import Profile, fit_slope
from .candidates import Plan
from .choose import Report, compare, replay


@dataclass(frozen=True)
class Decision:
    """What to run next, and why. `report` has the figures, if there was enough to judge by."""

    plan: Plan
    switch: bool
    reason: str
    report: Report | None = None


class Selector:
    """Keeps the last reply times of n workers and says when another plan pays.

    Begin with some rounds of each of `candidates.probes`: they wait for everyone. A switch happens at a
    drained boundary, so it costs the old plan's delay in rounds; it is made only if what is saved over
    the next `horizon` jobs beats that and `least_gain`.

    Args:
        n: Workers.
        most_delay: T at most; 0 for a single model.
        slope: Seconds of a reply for each unit of load. None: fitted.
        window: Rounds that are kept.
        horizon: Jobs over which a switch has to pay.
        least_gain: Relative gain below which nothing is switched.
        costs: Of the master, measured.
    """

    def __init__(
        self,
        n: int,
        most_delay: int,
        *,
        slope: float | None = None,
        window: int = 80,
        horizon: int = 80,
        least_gain: float = 0.05,
        costs: Costs | None = None,
    ) -> None:
        self.n = n
        self.most_delay = most_delay
        self.slope = slope
        self.horizon = horizon
        self.least_gain = least_gain
        self.costs = costs or Costs()
        self._rounds: deque[tuple[Floats, Floats, Mask]] = deque(maxlen=window)

    def forget(self, keep: int) -> None:
        """Drop all but the last `keep` rounds, since times are others now. The slope stays known."""
        if self._rounds and self.slope is None:
            self.slope = _fitted(list(self._rounds))
        while len(self._rounds) > keep:
            self._rounds.popleft()

    @property
    def rounds(self) -> int:
        """Rounds that it knows."""
        return len(self._rounds)

    @property
    def enough(self) -> bool:
        """Whether there are rounds enough to decide by."""
        return self.rounds >= 2 * (self.most_delay + 4)

    def record(self, loads: Floats, seconds: Floats, duration: float) -> None:
        """Keep a round: loads (n,), reply times (n,), NaN where the round ended before the reply.

        Rounds in which somebody was idle tell too little and are left out.
        """
        if (loads > 0).all():
            missing = np.isnan(seconds)
            self._rounds.append((loads.copy(), np.where(missing, duration, seconds), missing))

    def profile(self) -> Profile:
        """The kept rounds as a profile.

        A reply that a round didn't wait for is known to have taken longer than the round. It gets the
        mean time, relative to its round's median, of the replies that are known and took longer than
        that; or twice the round's duration where there is none.

        Raises:
            ValueError: no round is kept.
        """
        if not self._rounds:
            raise ValueError("no round has been recorded")
        kept = list(self._rounds)  # rounds go on while this is read in a thread
        loads: Floats = np.array([loads for loads, _, _ in kept])
        seconds: Floats = np.array([seconds for _, seconds, _ in kept])
        missing: NDArray[np.bool_] = np.array([missing for _, _, missing in kept])
        slope = self.slope if self.slope is not None else _fitted(kept)
        medians = np.median(seconds, axis=1, keepdims=True)
        relative = seconds / medians
        known = np.sort(relative[~missing])
        bounds = relative[missing]
        first = np.searchsorted(known, bounds, side="right")
        count = len(known) - first
        sums = np.append(np.cumsum(known[::-1])[::-1], 0.0)
        relative[missing] = np.where(count, sums[first] / np.maximum(count, 1), 2 * bounds)
        seconds = relative * medians
        return Profile(seconds, loads, self._usual(loads, seconds) if slope is None else slope, "this run")

    def decide(self, current: Plan) -> Decision:
        """Judge the kept rounds: stay with `current`, or switch. A probe is always left for the choice."""
        if not self.enough:
            return Decision(current, False, f"only {self.rounds} rounds are known")
        profile = self.profile()
        report = compare(profile, self.most_delay, costs=self.costs, least_gain=self.least_gain)
        if not np.isfinite(current.wait.mu):  # a probe
            return Decision(report.choice, True, f"the probe is over. {report.reason}", report)
        if report.choice == current:
            return Decision(current, False, f"{current} is still the best", report)
        jobs = report.jobs
        now, durations = replay(current, profile, jobs, self.costs)
        then, _ = replay(report.choice, profile, jobs, self.costs)
        drain = float(durations.mean()) * now.delay
        before = now.seconds_per_job * self.horizon
        gain = 1 - (then.seconds_per_job * self.horizon + drain) / before
        if gain < self.least_gain:
            return Decision(
                current,
                False,
                f"{report.choice} would save {gain:.1%} of the next {self.horizon} jobs, the rounds to drain "
                f"{current} paid: under {self.least_gain:.0%}",
                report,
            )
        why = (
            f"{report.choice} saves {gain:.1%} of the next {self.horizon} jobs over {current}, draining paid"
        )
        return Decision(report.choice, True, why, report)

    @staticmethod
    def _usual(loads: Floats, seconds: Floats) -> float:
        """A slope where all loads were equal: as if a reply's whole usual time were compute. That is
        the most it can be, so coding is never favoured by what isn't known.
        """
        return float(np.median(seconds) / np.median(loads))


def _fitted(rounds: Sequence[tuple[Floats, Floats, Mask]]) -> float | None:
    seconds = [np.where(missing, np.inf, seconds) for _, seconds, missing in rounds]
    return fit_slope(np.array([loads for loads, _, _ in rounds]), np.array(seconds))
