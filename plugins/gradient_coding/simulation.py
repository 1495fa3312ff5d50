"""A scheme's rounds in virtual time: the production state machines over a profile of reply times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .codes.base import Floats, Mask
from .schemes.base import Scheme
from .stragglers.profile import Profile
from .waiting import Cause, Rule, Wait


@dataclass(frozen=True)
class Costs:
    """What the master adds to a round: seconds a decoded job, and seconds a vector that comes in."""

    decode: float = 0.0
    vector: float = 0.0


@dataclass(frozen=True)
class Simulated:
    """How a scheme went: by round, its duration and the part of it after the window, in seconds, why
    it ended, and who straggled (rounds, n); by job, when it was decoded, in seconds from the start.
    """

    durations: Floats
    waited: Floats
    causes: Sequence[Cause]
    stragglers: NDArray[np.bool_]
    decoded: dict[int, float]

    @property
    def seconds(self) -> float:
        """Time of the whole run."""
        return float(self.durations.sum())


def simulate(
    scheme: Scheme,
    profile: Profile,
    jobs: int,
    wait: Wait | None = None,
    costs: Costs | None = None,
    limit: float = np.inf,
) -> Simulated:
    """Run `jobs` jobs of a fresh scheme to their ends, over the first jobs + delay rounds of a profile.

    It gives up in the round that ends after `limit` seconds.

    Raises:
        ValueError: the profile has other workers than the scheme, or too few rounds.
    """
    wait, costs = wait or Wait(), costs or Costs()
    if profile.n != scheme.n:
        raise ValueError(f"the profile has {profile.n} workers and {scheme!r} has {scheme.n}")
    if profile.rounds < jobs + scheme.delay:
        raise ValueError(
            f"{jobs} jobs of {scheme!r} take {jobs + scheme.delay} rounds; the profile has {profile.rounds}"
        )
    clock = 0.0
    durations: list[float] = []
    waited: list[float] = []
    causes: list[Cause] = []
    masks: list[Mask] = []
    decoded: dict[int, float] = {}
    for index in range(jobs + scheme.delay):
        if clock > limit or (index >= jobs and not scheme.pending):
            break
        assignment = scheme.assign(index < jobs)
        working = assignment.working
        if working.any():
            loads = profile.weigh(assignment.shares) if len(profile.costs) > 1 else assignment.loads
            times = [profile.at(index, share * loads) for share in scheme.milestones]
            duration, late, cause, replied = end_of_round(scheme, working, np.stack(times, axis=1), wait)
        else:
            duration, late, cause, replied = 0.0, 0.0, Cause.COMPLETE, ~working
        each = scheme.messages if scheme.delay == 0 else min(scheme.messages, index + 1)
        messages = int(np.count_nonzero(replied & working)) * each
        closed = scheme.close(replied)
        duration += costs.vector * messages + costs.decode * len(closed.decodable)
        clock += duration
        for job in closed.decodable:
            decoded[job] = clock
            scheme.discard(job)
        durations.append(duration)
        waited.append(late)
        causes.append(cause)
        masks.append(closed.stragglers)
    return Simulated(np.array(durations), np.array(waited), causes, np.array(masks), decoded)


def end_of_round(
    scheme: Scheme, working: Mask, times: Floats, wait: Wait
) -> tuple[float, float, Cause, Mask]:
    """When the open round ends, given when each worker reaches each of the scheme's milestones, (n, k):
    its duration, the part of it after the window, the cause, and who has replied by then.

    What `waiting.Rounds` finds reply by reply is found here by bisection: a round that fits still fits
    with one reply more.
    """
    steps, times = times, times[:, -1]
    parted = steps.shape[1] > 1

    def fits(time: float) -> bool:
        if parted:
            return scheme.covers(~working[:, None] | (steps <= time))
        return wait.fits(scheme, ~working | (times <= time))

    duration, late, cause = _end(scheme, working, steps, wait, fits)
    if parted:
        scheme.take(steps <= duration)
    return duration, late, cause, ~working | (times <= duration)


def _end(
    scheme: Scheme, working: Mask, steps: Floats, wait: Wait, fits: Callable[[float], bool]
) -> tuple[float, float, Cause]:
    times = steps[:, -1]
    arrivals = np.sort(times[working])
    reference = wait.reference(arrivals, len(arrivals)) or 0.0
    end = (1 + wait.mu) * reference
    if arrivals[-1] <= end:
        return float(arrivals[-1]), 0.0, Cause.COMPLETE
    if fits(end):
        return end, 0.0, Cause.WINDOW
    patience = max(end, (1 + wait.patience) * reference)
    late = np.unique(steps[working])
    late = late[late > end]
    if patience < late[-1]:
        late = np.unique(np.append(late, patience))

    def gives_up(time: float) -> bool:
        return time >= patience and scheme.approximates(~working | (times <= time))

    def closes(time: float) -> bool:
        return (wait.rule is not Rule.EVERYONE and fits(time)) or gives_up(time)

    low, high = 0, len(late) - 1  # with late[high] everybody is in, which always fits
    while low < high:
        middle = (low + high) // 2
        if closes(float(late[middle])):
            high = middle
        else:
            low = middle + 1
    duration = float(late[high])
    cause = Cause.WAITED if duration > end else Cause.WINDOW
    if not scheme.covers(~working[:, None] | (steps <= duration)):
        cause = Cause.GAVE_UP
    return duration, duration - end, cause
