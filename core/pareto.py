"""Pareto sets and hypervolume, through moocore. Everything here takes goals, not raw directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

from .objective import Goal

Points = Sequence[Mapping[str, float]]


def losses(points: Points, goals: Sequence[Goal]) -> NDArray[np.float64]:
    """Turn points into an (n, m) array in which smaller is better for every optimised goal."""
    optimised = [goal for goal in goals if goal.direction is not None]
    table = [
        [point[goal.name] if goal.direction == "minimize" else -point[goal.name] for goal in optimised]
        for point in points
    ]
    return np.asarray(table, dtype=np.float64).reshape(len(points), len(optimised))


def feasible(point: Mapping[str, float], goals: Sequence[Goal]) -> bool:
    """Whether the point keeps every bound."""
    return violation(point, goals) == 0.0


def violation(point: Mapping[str, float], goals: Sequence[Goal]) -> float:
    """Sum of the bounds' violations over the goals the point has a value for; 0 when feasible."""
    return sum(goal.violation(point[goal.name]) for goal in goals if goal.name in point)


def pareto_indices(points: Points, goals: Sequence[Goal]) -> list[int]:
    """Indices of the feasible, non-dominated points, best in the first goal first.

    Of equal points the earliest counts.
    """
    kept = [index for index, point in enumerate(points) if feasible(point, goals)]
    if not kept:
        return []
    table = losses([points[index] for index in kept], goals)
    mask = moocore.is_nondominated(table, keep_weakly=False)
    front = [(tuple(row), index) for row, index, inside in zip(table, kept, mask, strict=True) if inside]
    return [index for _, index in sorted(front)]


def pareto_ranks(table: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rank rows of an (n, m) loss table by non-dominated sorting: 0 is the front."""
    return np.asarray(moocore.pareto_rank(table), dtype=np.int64)


def crowding(table: NDArray[np.float64], ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Crowding distance of each row of an (n, m) loss table among its rank: (n,), inf at the ends.

    Sum over objectives of the gap between a point's neighbours, as a part of the rank's range
    (Deb et al., NSGA-II, 2002, section III.B).
    """
    distance = np.zeros(len(table))
    for rank in np.unique(ranks):
        members = np.flatnonzero(ranks == rank)
        for column in table[members].T:
            order = members[np.argsort(column, kind="stable")]
            values = np.sort(column)
            distance[order[[0, -1]]] = np.inf
            if values[-1] > values[0]:
                distance[order[1:-1]] += (values[2:] - values[:-2]) / (values[-1] - values[0])
    return distance


def reference_point(points: Points, goals: Sequence[Goal]) -> list[float]:
    """The goals' reference values in loss form; where a goal has none, the worst value in `points`
    moved outwards by a tenth of the observed range.
    """
    table = losses(points, goals)
    optimised = [goal for goal in goals if goal.direction is not None]
    reference: list[float] = []
    for column, goal in enumerate(optimised):
        if goal.reference is not None:
            reference.append(goal.reference if goal.direction == "minimize" else -goal.reference)
        else:
            low, high = table[:, column].min(), table[:, column].max()
            reference.append(float(high + 0.1 * (high - low or abs(high) or 1.0)))
    return reference


def hypervolume(points: Points, goals: Sequence[Goal], reference: Sequence[float] | None = None) -> float:
    """Volume that the feasible points dominate, up to `reference` (loss form).

    Without points it is 0. Compare only values that share a reference.
    """
    inside = [point for point in points if feasible(point, goals)]
    if not inside:
        return 0.0
    corner = list(reference) if reference is not None else reference_point(inside, goals)
    return float(moocore.hypervolume(losses(inside, goals), ref=np.asarray(corner)))
