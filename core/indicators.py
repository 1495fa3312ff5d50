"""How good a set of candidates is for several objectives: distances to the ideal and to a front, coverage,
top-k reward and diversity, percentiles of rewards.

The hypervolume is in `pareto`. Functions take *qualities*, an (n, m) table of objectives scaled to
[0, 1] with 1 the ideal (`Scale`), so that no objective counts for more because of its unit. Compare
only values that share that scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import moocore
import numpy as np
from numpy.typing import NDArray

from .objective import Goal
from .pareto import Points, losses
from .scalarisation import Floats, simplex, weighted_sum

DIVISIONS = {1: 1, 2: 49, 3: 9, 4: 5}
"""Divisions of each axis for about 50 evenly spread preferences, by number of objectives."""
MANY = 3
"""The same for more objectives."""


@dataclass(frozen=True)
class Scale:
    """The corners between which objectives are scaled, in loss form: `ideal` has quality 1, `worst` 0."""

    ideal: Floats
    worst: Floats

    def qualities(self, points: Points, goals: Sequence[Goal]) -> Floats:
        """Scale points to (n, m) qualities; one worse than `worst` is below 0."""
        width = np.where(self.worst > self.ideal, self.worst - self.ideal, 1.0)
        return 1 - (losses(points, goals) - self.ideal) / width


def preferences(goals: int) -> Floats:
    """About 50 evenly spread preferences, (n, goals)."""
    return simplex(goals, DIVISIONS.get(goals, MANY))


def r2(qualities: Floats, weights: Floats) -> float:
    """R2: the weighted Tchebycheff distance to the ideal point (1, …, 1), mean over preferences of the
    best point's. Smaller is better, 0 is ideal; infinite without points.

    Hansen & Jaszkiewicz, "Evaluating the Quality of Approximations to the Non-Dominated Set", 1998;
    the unary form of Brockhoff, Wagner & Trautmann, GECCO 2012. (Some code divides by the Frobenius norm
    of `weights` instead of by their number.)

    Args:
        qualities: (n, m).
        weights: (k, m), preferences.
    """
    if not len(qualities):
        return math.inf
    return float(_distances(qualities, weights).min(axis=1).mean())


def igd_plus(qualities: Floats, reference: Floats) -> float:
    """IGD+: how far the reference front's points are from being reached, in the mean; 0 when all are.

    Ishibuchi et al., "Modified Distance Calculation in Generational Distance and Inverted Generational
    Distance", EMO 2015. Infinite without points.

    Args:
        qualities: (n, m).
        reference: (k, m), the true front, or the best one known.
    """
    if not len(qualities):
        return math.inf
    return float(moocore.igd_plus(qualities, ref=reference, maximise=True))


def igd(qualities: Floats, reference: Floats) -> float:
    """IGD: mean Euclidean distance from a reference front's points to the nearest point; 0 when all are
    there. Unlike `igd_plus` it blames a point for being better than the front. Infinite without points.

    Coello Coello & Reyes Sierra, "A Study of the Parallelization of a Coevolutionary Multi-objective
    Evolutionary Algorithm", MICAI 2004.

    Args:
        qualities: (n, m).
        reference: (k, m), the true front, or the best one known.
    """
    if not len(qualities):
        return math.inf
    return float(moocore.igd(qualities, ref=reference, maximise=True))


def pc_entropy(qualities: Floats, reference: Floats) -> float:
    """Pareto-clusters entropy: how evenly points spread over the parts of a front, in nats.

    Each point counts for the reference point that is nearest to it (Euclidean); this is the entropy of
    these counts, from 0 (all near the same one, or no points) to log k. It says nothing of how near they
    are: read it beside a distance. Roy et al., "Goal-conditioned GFlowNets for Controllable
    Multi-Objective Molecular Design", arXiv 2306.04620.

    Args:
        qualities: (n, m).
        reference: (k, m), the true front, or the best one known.
    """
    from scipy.spatial import KDTree
    from scipy.special import entr

    if not len(qualities):
        return 0.0
    tree: Any = KDTree(reference)
    counts = np.bincount(tree.query(qualities)[1])
    return float(entr(counts / len(qualities)).sum())


def hypervolume_sharpe_ratio(qualities: Floats) -> float:
    """HSR: the largest ratio of mean to deviation that a mixture of the points can have.

    A point pays 1 where a goal drawn evenly from the unit cube is below it in every objective, else 0. So
    points earn by the volume that they dominate, and more together by dominating different parts of it.
    0 without points, infinite where one of them is ideal. Takes time with the cube of n: give it a front.

    Guerreiro & Fonseca, "Hypervolume Sharpe-Ratio Indicator: Formalization and First Theoretical Results",
    PPSN 2016, with the cube's corners as reference points and a riskless return of 0.

    Args:
        qualities: (n, m).
    """
    from scipy import optimize as _optimize

    optimize: Any = _optimize  # its types leave much unknown
    inside = np.clip(qualities, 0.0, 1.0)
    returns = inside.prod(axis=1)
    inside, returns = inside[returns > 0], returns[returns > 0]
    if not len(returns):
        return 0.0
    if returns.max() == 1:
        return math.inf
    both = np.minimum(inside[:, None, :], inside[None, :, :]).prod(axis=2)
    values, vectors = np.linalg.eigh(both - np.outer(returns, returns))
    kept = values > 1e-12 * values[-1]
    root = np.sqrt(values[kept])[:, None] * vectors[:, kept].T
    # min |root x - b|^2 with root' b = returns is min x' Q x - 2 returns' x: x is the best mixture.
    shares = optimize.nnls(root, np.linalg.lstsq(root.T, returns, rcond=None)[0])[0]
    return float(returns @ shares / np.linalg.norm(root @ shares))


def coverage(qualities: Floats, reference: Floats, weights: Floats, tolerance: float = 0.01) -> float:
    """Pareto coverage by preference: the share of preferences that the set serves as well as the reference
    front does, that is, with a Tchebycheff distance at most `tolerance` larger. In [0, 1].
    """
    if not len(qualities):
        return 0.0
    reached = _distances(qualities, weights).min(axis=1)
    possible = _distances(reference, weights).min(axis=1)
    return np.count_nonzero(reached <= possible + tolerance) / len(weights)


def top_rewards(qualities: Floats, weights: Floats, k: int) -> tuple[Floats, NDArray[np.int64]]:
    """The k best rewards under each preference, and who earns them: two (preferences, k) arrays.

    The reward is the weighted sum of qualities; of equal ones the earliest counts.
    """
    rewards = weighted_sum(qualities[None, :, :], weights[:, None, :])
    best = np.argsort(-rewards, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(rewards, best, axis=1), best


def top_k_reward(qualities: Floats, weights: Floats, k: int = 10) -> float:
    """Mean over preferences of the mean of the k best rewards."""
    return float(top_rewards(qualities, weights, k)[0].mean())


def reward_percentile(qualities: Floats, weights: Floats, percent: float = 50) -> float:
    """Mean over preferences of this percentile of all rewards, weighted sums of qualities.

    100 is the best reward, 0 the worst; between two points it is interpolated. 0 without points.
    """
    if not len(qualities):
        return 0.0
    return float(np.percentile(qualities @ weights.T, percent, axis=0).mean())


def top_k_diversity(
    qualities: Floats, weights: Floats, candidates: Sequence[Mapping[str, object]], k: int = 10
) -> float:
    """Mean over preferences of the mean distance between two of the k candidates of best reward.

    Args:
        qualities: (n, m).
        weights: preferences.
        candidates: the n candidates; see `candidate_distances`.
        k: how many count.
    """
    _, best = top_rewards(qualities, weights, k)
    count = best.shape[1]
    if count < 2:
        return 0.0
    kept = sorted(set(best.ravel().tolist()))
    distances = candidate_distances([candidates[index] for index in kept])
    place = np.searchsorted(kept, best)
    among = distances[place[:, :, None], place[:, None, :]]
    return float(among.sum(axis=(1, 2)).mean() / (count * (count - 1)))


def candidate_distances(candidates: Sequence[Mapping[str, object]]) -> Floats:
    """Normalised Hamming distances between candidates, (n, n): the share of choices, of those that either
    makes, on which the two don't agree. In [0, 1].
    """
    names = list(dict.fromkeys(name for candidate in candidates for name in candidate))
    if not names:
        return np.zeros((len(candidates), len(candidates)))
    codes = np.full((len(candidates), len(names)), -1, dtype=np.int64)  # -1: makes no such choice
    for column, name in enumerate(names):
        seen: dict[object, int] = {}
        for row, candidate in enumerate(candidates):
            if name in candidate:
                value = candidate[name]
                codes[row, column] = seen.setdefault((type(value), value), len(seen))
    apart = np.zeros((len(candidates), len(candidates)))
    either = np.zeros_like(apart)
    for column in codes.T:
        apart += column[:, None] != column[None, :]
        either += (column[:, None] >= 0) | (column[None, :] >= 0)
    return apart / np.maximum(either, 1)


def _distances(qualities: Floats, weights: Floats) -> Floats:
    """Weighted Tchebycheff distance to the ideal, (preferences, points)."""
    return np.max(weights[:, None, :] * np.abs(1 - qualities[None, :, :]), axis=2)
