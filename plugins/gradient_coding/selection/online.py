"""Selection while a run goes on: reply times of the last rounds, and a switch only where it pays."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..codes.base import Floats, Mask
from ..simulation import Costs
from ..stragglers.profile import Profile, fit_slopes
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
    the next `horizon` jobs beats that and `least_gain`. Models may be of different sizes: each has a slope
    of its own, fitted to the rounds in which its jobs were worked on.

    Args:
        n: Workers.
        most_delay: T at most; 0 for a single model.
        slope: Seconds of a reply for each unit of load, of every model. None: fitted.
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
        self.horizon = horizon
        self.least_gain = least_gain
        self.costs = costs or Costs()
        self.models: list[int] = []
        """Models that are training, by their numbers, as far as rounds have shown."""
        self._slope = slope
        self._slopes: dict[int, float] = {}  # by model, as fitted last
        self._rounds: deque[tuple[Mapping[int, Floats], Floats, Mask]] = deque(maxlen=window)

    def forget(self, keep: int) -> None:
        """Drop all but the last `keep` rounds, since times are others now. Slopes stay known."""
        self._fit(list(self._rounds))
        while len(self._rounds) > keep:
            self._rounds.popleft()

    def retire(self, model: int) -> None:
        """Hear that a model has ended: the next plan is for the others."""
        self.models = [one for one in self.models if one != model]

    @property
    def rounds(self) -> int:
        """Rounds that it knows."""
        return len(self._rounds)

    @property
    def enough(self) -> bool:
        """Whether there are rounds enough to decide by."""
        return self.rounds >= 2 * (self.most_delay + 4)

    def record(self, shares: Mapping[int, Floats], seconds: Floats, duration: float) -> None:
        """Keep a round: by model, the shares (n,) of its job that workers computed; reply times (n,), NaN
        where the round ended before the reply.

        Rounds in which somebody was idle tell too little and are left out.
        """
        if shares and (_total(shares) > 0).all():
            missing = np.isnan(seconds)
            self._rounds.append((dict(shares), np.where(missing, duration, seconds), missing))
            self.models = sorted({*self.models, *shares})

    def profile(self) -> Profile:
        """The kept rounds as a profile, for the models that are training.

        A reply that a round didn't wait for is known to have taken longer than the round. It gets the
        mean time, relative to its round's median, of the replies that are known and took longer than
        that; or twice the round's duration where there is none.

        Raises:
            ValueError: no round is kept.
        """
        if not self._rounds:
            raise ValueError("no round has been recorded")
        kept = list(self._rounds)  # rounds go on while this is read in a thread
        models = self.models or sorted({model for shares, _, _ in kept for model in shares})
        seconds: Floats = np.array([seconds for _, seconds, _ in kept])
        missing: NDArray[np.bool_] = np.array([missing for _, _, missing in kept])
        self._fit(kept)
        medians = np.median(seconds, axis=1, keepdims=True)
        relative = seconds / medians
        known = np.sort(relative[~missing])
        bounds = relative[missing]
        first = np.searchsorted(known, bounds, side="right")
        count = len(known) - first
        sums = np.append(np.cumsum(known[::-1])[::-1], 0.0)
        relative[missing] = np.where(count, sums[first] / np.maximum(count, 1), 2 * bounds)
        seconds = relative * medians
        slope, costs = self._costs(models)
        loads: Floats = np.array(
            [
                _total({model: costs.get(model, 1.0) * share for model, share in shares.items()})
                for shares, _, _ in kept
            ]
        )
        if slope is None:
            slope = self._usual(loads, seconds)
        return Profile(seconds, loads, slope, "this run", tuple(costs.get(model, 1.0) for model in models))

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
        jobs = min(report.jobs, profile.rounds - current.make(self.n, simulated=True).delay)
        now, durations = replay(current, profile, jobs, self.costs)
        then, _ = replay(report.choice, profile, jobs, self.costs)
        drain = float(durations.mean()) * now.delay
        before = now.seconds_per_job * self.horizon
        gain = 1 - (then.seconds_per_job * self.horizon + drain) / before
        paid = f"the {drain:.3g} s paid that {current} takes to drain"
        if gain < self.least_gain:
            return Decision(
                current,
                False,
                f"{report.choice} would save {gain:.1%} of the next {self.horizon} jobs, {paid}: under "
                f"{self.least_gain:.0%}",
                report,
            )
        why = f"{report.choice} saves {gain:.1%} of the next {self.horizon} jobs over {current}, {paid}"
        return Decision(report.choice, True, why, report)

    def _fit(self, rounds: Sequence[tuple[Mapping[int, Floats], Floats, Mask]]) -> None:
        """Learn the models' slopes, if these rounds tell them all."""
        models = sorted({model for shares, _, _ in rounds for model in shares})
        idle = np.zeros(self.n)
        loads = [np.stack([shares.get(model, idle) for model in models], axis=1) for shares, _, _ in rounds]
        seconds = [np.where(missing, np.inf, seconds) for _, seconds, missing in rounds]
        found = fit_slopes(np.concatenate(loads), np.concatenate(seconds)) if rounds else None
        if found is not None:
            self._slopes |= dict(zip(models, found.tolist(), strict=True))

    def _costs(self, models: Sequence[int]) -> tuple[float | None, dict[int, float]]:
        """The mean slope of these models, and what each one costs relative to it, if that is known."""
        known = [self._slopes[model] for model in models if model in self._slopes]
        mean = float(np.mean(known)) if known else 0.0
        relative = {model: slope / mean for model, slope in self._slopes.items()} if mean else {}
        return (self._slope if self._slope is not None or not known else mean), relative

    @staticmethod
    def _usual(loads: Floats, seconds: Floats) -> float:
        """A slope where all loads were equal: as if a reply's whole usual time were compute. That is
        the most it can be, so coding is never favoured by what isn't known.
        """
        return float(np.median(seconds) / np.median(loads))


def _total(shares: Mapping[int, Floats]) -> Floats:
    return np.sum(list(shares.values()), axis=0)
