"""Scalarisations: several objectives and a preference as one number to maximise.

Everything here takes *qualities*: objectives scaled so that 0 is the worst and 1 the best value that
counts (`quality`). The bounds are declared, never taken from what was seen: moving ones would change
what past results are worth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Method: TypeAlias = Literal[
    "weighted-sum", "weighted-log-sum", "tchebycheff", "augmented-tchebycheff", "boundary-intersection"
]
Floats: TypeAlias = NDArray[np.float64]

FLOOR = 1e-4
"""Least quality that `weighted-log-sum` tells from others: below, its logarithm would decide alone."""

AUGMENTATION = 0.05
"""Share of the weighted sum in `augmented-tchebycheff` (rho)."""

PENALTY = 5.0
"""Weight of the distance from the preferred direction in `boundary-intersection` (theta)."""


def quality(value: float, worst: float, best: float) -> float:
    """Scale an objective's value: `worst` becomes 0, `best` 1, others in proportion, beyond them too."""
    return (value - worst) / (best - worst)


def weighted_sum(qualities: Floats, weights: Floats) -> Floats:
    """`sum w q`. Its optima lie on the front's convex hull only: a concave part can't be preferred."""
    # Product by product: the last axis is short, and NumPy's sum along it slow.
    products = (weights[..., one] * qualities[..., one] for one in range(qualities.shape[-1]))
    return reduce(np.add, products)


def weighted_log_sum(qualities: Floats, weights: Floats) -> Floats:
    """`prod q^w`, the exponential of `sum w log q`: nothing makes up for a quality of 0."""
    return np.exp(np.sum(weights * np.log(np.maximum(qualities, FLOOR)), axis=-1))


def tchebycheff(qualities: Floats, weights: Floats) -> Floats:
    """`1 - max w (1 - q)`: the largest weighted distance to the ideal point counts.

    Every Pareto-optimal point is best for some preference, and so may a weakly dominated one be
    (Miettinen, "Nonlinear Multiobjective Optimization", 1998, section 3.4).
    """
    return 1 - np.max(weights * (1 - qualities), axis=-1)


def augmented_tchebycheff(qualities: Floats, weights: Floats) -> Floats:
    """`tchebycheff` plus a little of the weighted sum, which tells weakly dominated points apart.

    Knowles, "ParEGO", IEEE Transactions on Evolutionary Computation 10(1), 2006, section III.
    """
    return tchebycheff(qualities, weights) + AUGMENTATION * weighted_sum(qualities, weights)


def boundary_intersection(qualities: Floats, weights: Floats) -> Floats:
    """Penalty boundary intersection: the way left to the ideal point along the preferred direction, and
    `PENALTY` times the distance from it.

    The direction is that of `weights`, from the ideal point (Zhang & Li, "MOEA/D", IEEE Transactions on
    Evolutionary Computation 11(6), 2007, section II.C).
    """
    direction = weights / np.linalg.norm(weights, axis=-1, keepdims=True)
    left = 1 - qualities
    along = np.sum(left * direction, axis=-1)
    apart = np.linalg.norm(left - along[..., None] * direction, axis=-1)
    return 1 - along - PENALTY * apart


METHODS: Mapping[Method, Callable[[Floats, Floats], Floats]] = {
    "weighted-sum": weighted_sum,
    "weighted-log-sum": weighted_log_sum,
    "tchebycheff": tchebycheff,
    "augmented-tchebycheff": augmented_tchebycheff,
    "boundary-intersection": boundary_intersection,
}
assert set(METHODS) == set(get_args(Method))


def scalarise(qualities: ArrayLike, weights: ArrayLike, method: Method = "augmented-tchebycheff") -> Floats:
    """Scalarise qualities under preferences; larger is better.

    Args:
        qualities: (…, m), 1 is best.
        weights: (…, m), not negative, of sum 1; broadcast against `qualities`.
        method: one of `METHODS`.

    Returns:
        The broadcast shape without its last axis.
    """
    return METHODS[method](np.asarray(qualities, dtype=np.float64), np.asarray(weights, dtype=np.float64))


def simplex(goals: int, divisions: int) -> Floats:
    """Evenly spread preferences, (n, goals): all multiples of 1/divisions that sum to 1.

    Das & Dennis, "Normal-Boundary Intersection", SIAM Journal on Optimization 8(3), 1998.
    """
    if goals == 1:
        return np.ones((1, 1))
    rows: list[list[int]] = []

    def extend(row: list[int], left: int) -> None:
        if len(row) == goals - 1:
            rows.append([*row, left])
            return
        for part in range(left + 1):
            extend([*row, part], left - part)

    extend([], divisions)
    return np.asarray(rows, dtype=np.float64) / divisions
