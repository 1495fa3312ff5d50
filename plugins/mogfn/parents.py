"""Around which trials `mogfn-al` looks for neighbours: the front, and where that is short, what was on it.

The active pool of MOGFN-AL (after LaMBO, Stanton et al., arXiv 2203.12742), concentrated to the front in
every round and filled up by backtracking.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...core import Goal
from ...core.pareto import Points, losses, pareto_indices


def parents(points: Points, goals: Sequence[Goal], least: int, rng: np.random.Generator) -> list[int]:
    """Indices of the front's points; of all, where none is feasible.

    Where that is fewer than `least`, points that were on the front when they came are drawn to them, then
    any. A point's weight is 1 / rank, by the objective in which it ranks worst.
    """
    front = pareto_indices(points, goals)
    found = list(front) or list(range(len(points)))
    if len(found) >= min(least, len(points)):
        return found
    table = losses(points, goals)
    ranks = np.column_stack([np.unique(column, return_inverse=True)[1] + 1 for column in table.T])
    weights = 1 / ranks.max(axis=1)
    once = [index for index in range(len(points)) if index in pareto_indices(points[: index + 1], goals)]
    for group in (once, range(len(points))):
        left = np.setdiff1d(np.array(group, np.int64), found)
        count = min(least - len(found), len(left))
        if count > 0:
            shares = weights[left] / weights[left].sum()
            found += rng.choice(left, count, replace=False, p=shares).tolist()
    return found
