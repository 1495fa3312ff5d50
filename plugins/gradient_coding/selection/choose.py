"""Predictions by replay: how each scheme would have done on a profile, and which one to take.

Replays use the profile's own rounds for every scheme, so that they differ in the scheme alone. What is
picked on a profile looks better there than it is; the predicted gain is therefore cross-fitted: picked
on one half of the rounds, measured on the other, and the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..codes.base import Floats
from ..simulation import Costs, simulate
from ..stragglers.profile import Profile
from ..waiting import Rule
from .candidates import CODED, WINDOWS, Plan, families, windows

COARSE = 8
"""Members of a family that are tried before the neighbours of the best one."""

HOPELESS = 1.2
"""A replay is given up when it takes longer than the best one by this factor."""

RESAMPLES = 2000
BLOCK = 8
"""Consecutive rounds that stay together in a bootstrap sample, for bursts make rounds dependent."""


@dataclass(frozen=True)
class Predicted:
    """A plan's replay: seconds a job, over all rounds of a profile, the last ones without a new job
    included (of a scheme that drops samples, for as many as a job has); its largest load and its delay
    T; the part of all replies that it did without; and the part of the time that passed in rounds without
    a new job (bubbles).
    """

    plan: Plan
    seconds_per_job: float
    load: float
    delay: int
    stragglers: float
    bubbles: float = 0.0


@dataclass(frozen=True)
class Report:
    """What coding would bring. `best` by scheme, the fastest first, uncoded among them.

    `gain` is the relative saving of `choice` over not coding, cross-fitted, with a 95 % interval.
    `reason` says in a sentence why `choice` is what it is.
    """

    best: tuple[Predicted, ...]
    uncoded: Predicted
    choice: Plan
    gain: float
    interval: tuple[float, float]
    reason: str
    jobs: int

    @property
    def codes(self) -> bool:
        """Whether it is worth it to code."""
        return self.choice.scheme != "uncoded"


Progress = Callable[[int, int], None]


def replay(
    plan: Plan, profile: Profile, jobs: int, costs: Costs | None = None, limit: float = np.inf
) -> tuple[Predicted, Floats]:
    """Replay a plan; also the duration of each round. Given up when it takes longer than `limit`."""
    scheme = plan.make(profile.n, simulated=True)
    done = simulate(scheme, profile, jobs, plan.wait, costs, limit)
    each = done.seconds / jobs / scheme.coverage
    stragglers = float(done.stragglers.mean())
    bubbles = float(done.durations[jobs:].sum()) / done.seconds if done.seconds else 0.0
    return Predicted(plan, each, scheme.load, scheme.delay, stragglers, bubbles), done.durations


def search(
    profile: Profile,
    most_delay: int,
    schemes: Sequence[str] = CODED,
    costs: Costs | None = None,
    progress: Progress | None = None,
    rule: Rule = Rule.FEASIBLE,
    mus: Sequence[float] = WINDOWS,
) -> list[Predicted]:
    """The best plan of each scheme on a profile, the fastest first; not coding is always among them.

    A family (all but one parameter fixed) is searched coarsely and then around its best member, with
    each window of `mus`; all wait by `rule`.

    Raises:
        ValueError: the profile has too few rounds for any job to end.
    """
    jobs = profile.rounds - most_delay
    if jobs < 1:
        raise ValueError(
            f"{profile.rounds} rounds are too few for schemes that take {most_delay} rounds more than jobs"
        )
    uncoded = Plan("uncoded")
    best = {"uncoded": replay(uncoded, profile, jobs, costs)[0]}
    groups = [family for family in families(profile.n, most_delay, schemes, rule) if family]
    for number, family in enumerate(groups):
        known = best.get(family[0].scheme)
        limit = known.seconds_per_job if known else np.inf
        found = _climb(
            [windows(plan, mus) for plan in family],
            limit,
            lambda plan, limit: replay(plan, profile, jobs, costs, limit * jobs)[0],
        )
        if found.seconds_per_job < limit:
            best[found.plan.scheme] = found
        if progress:
            progress(number + 1, len(groups))
    return sorted(best.values(), key=lambda one: one.seconds_per_job)


def compare(
    profile: Profile,
    most_delay: int,
    schemes: Sequence[str] = CODED,
    costs: Costs | None = None,
    least_gain: float = 0.05,
    progress: Progress | None = None,
) -> Report:
    """Search a profile and say whether to code, with which plan, and what it is expected to bring.

    Codes only if the interval of the net gain (`costs` paid) is above 0 and the gain at least
    `least_gain`. A plan that isn't exact is shown but never chosen.

    Raises:
        ValueError: the profile has fewer than 2 (most_delay + 4) rounds.
    """
    half = profile.rounds // 2
    if half < most_delay + 4:
        raise ValueError(
            f"{profile.rounds} rounds are too few to judge schemes with a delay of up to {most_delay}: "
            f"measure at least {2 * (most_delay + 4)}"
        )

    def step(part: int) -> Progress:
        def told(done: int, of: int) -> None:
            if progress:
                progress(part * of + done, 3 * of)

        return told

    exact = [scheme for scheme in schemes if scheme != "backup"]
    found = search(profile, most_delay, schemes, costs, step(0))
    uncoded = next(one for one in found if one.plan.scheme == "uncoded")
    choice = next(one for one in found if one.plan.scheme != "backup")
    halves = (profile.part(0, half), profile.part(half, profile.rounds))
    plain: list[Floats] = []
    coded: list[Floats] = []
    for part, (picked_on, measured_on) in enumerate((halves, halves[::-1])):
        pick = search(picked_on, most_delay, exact, costs, step(part + 1))[0].plan
        jobs = measured_on.rounds - most_delay
        plain.append(replay(Plan("uncoded"), measured_on, jobs, costs)[1])
        durations = replay(pick, measured_on, jobs, costs)[1]
        durations[jobs - 1] += durations[jobs:].sum()  # the rounds after the last job, paid by it
        coded.append(durations[:jobs])
    gain, interval = _gain(np.concatenate(plain), np.concatenate(coded))
    reason = _reason(choice, uncoded, gain, interval, least_gain)
    taken = choice.plan if interval[0] > 0 and gain >= least_gain else uncoded.plan
    return Report(tuple(found), uncoded, taken, gain, interval, reason, profile.rounds - most_delay)


def _climb(family: list[list[Plan]], limit: float, value: Callable[[Plan, float], Predicted]) -> Predicted:
    """Evaluate a ladder of plans (members, windows) coarsely, then walk from the best one to a local
    minimum: to its neighbours, and to other windows. Replays much slower than the best so far, or than
    `limit`, are given up.
    """
    known: dict[tuple[int, int], Predicted] = {}
    best: Predicted | None = None

    def at(member: int, window: int) -> float:
        nonlocal best
        if (member, window) not in known:
            plan = family[member][window]
            bound = limit if best is None else min(limit, best.seconds_per_job)
            found = known[member, window] = value(plan, HOPELESS * bound)
            if best is None or found.seconds_per_job < best.seconds_per_job:
                best = found
        return known[member, window].seconds_per_job

    sizes = len(family), len(family[0])
    middle = sizes[1] // 2
    ladder = np.rint(np.geomspace(1, sizes[0], min(COARSE, sizes[0]))).astype(int) - 1
    here = min(((int(member), middle) for member in ladder), key=lambda place: at(*place))
    while True:
        around = [(member, here[1]) for member in (here[0] - 1, here[0] + 1) if 0 <= member < sizes[0]]
        around += [(here[0], window) for window in range(sizes[1])]
        nearest = min([here, *around], key=lambda place: at(*place))
        if nearest == here:
            break
        here = nearest
    assert best is not None
    return best


def _gain(plain: Floats, coded: Floats) -> tuple[float, tuple[float, float]]:
    """Relative saving of total time, with a 95 % interval by a moving-block bootstrap of paired rounds
    (Künsch, "The Jackknife and the Bootstrap for General Stationary Observations", 1989).
    """
    rng = np.random.default_rng(0)
    count = len(plain)
    block = min(BLOCK, count)
    starts = rng.integers(0, count - block + 1, (RESAMPLES, -(-count // block)))
    rows = (starts[..., None] + np.arange(block)).reshape(RESAMPLES, -1)[:, :count]
    drawn = 1 - coded[rows].sum(axis=1) / plain[rows].sum(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(1 - coded.sum() / plain.sum()), (float(low), float(high))


def _reason(
    choice: Predicted, uncoded: Predicted, gain: float, interval: tuple[float, float], least: float
) -> str:
    shown = f"{gain:.0%} ({interval[0]:.0%} to {interval[1]:.0%})"
    if choice.plan.scheme == uncoded.plan.scheme:
        return "No scheme was faster than waiting for everyone."
    if interval[0] <= 0:
        return f"Not coding: the predicted gain, {shown}, may be none."
    if gain < least:
        return f"Not coding: the predicted gain, {shown}, is under {least:.0%}, the least worth a switch."
    bubbles = f", {choice.bubbles:.1%} lost in rounds without a new job paid" if choice.bubbles else ""
    return f"{choice.plan} is predicted to save {shown} of the time{bubbles}."
