"""Local search: half of a walk is taken back and made again, and the better candidate is kept.

Kim et al., "Local Search GFlowNets", arXiv 2310.02710: back by P_B, forth by P_F, and a walk is given up only
for one of a larger reward (their deterministic filter).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ...core import Candidate
from .environment import Act, ActBack, Bools, Environment, Floats, Integers, Trajectories, joined, taken

Judge = Callable[[Sequence[Candidate]], NDArray[np.float64]]
"""Log rewards (n,) of n candidates, each under its walk's condition."""


def improved(
    environment: Environment,
    walks: Trajectories,
    act: Act,
    act_back: ActBack | None,
    judge: Judge,
    rounds: int,
    rng: np.random.Generator,
) -> Trajectories:
    """Search around each of B walks, so many times: B walks, whose candidates are no worse."""
    best = judge(walks.candidates)
    for _ in range(rounds):
        back = environment.backward(walks.candidates, act_back, rng)
        again = environment.forward(len(best), halfway(back, act), rng)
        found = judge(again.candidates)
        rows = np.arange(len(best)) + np.where(found > best, len(best), 0)
        walks, best = taken(joined([walks, again]), rows), np.maximum(best, found)
    return walks


def halfway(walks: Trajectories, act: Act) -> Act:
    """Go the first half of each walk again, and on from there as `act` says.

    Where an old step isn't allowed any more (a decision that isn't shown to the policy has changed) `act`
    takes over.
    """
    starts = np.cumsum(walks.lengths) - walks.lengths
    steps = np.zeros_like(starts)

    def choose(rows: Integers, features: Floats, mask: Bools) -> Integers:
        old = walks.actions[starts[rows] + np.minimum(steps[rows], walks.lengths[rows] - 1)]
        again = (steps[rows] < walks.lengths[rows] // 2) & mask[np.arange(len(rows)), old]
        steps[rows] += 1
        return np.where(again, old, act(rows, features, mask))

    return choose
