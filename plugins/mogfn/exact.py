"""Exact distributions of small environments: what training is measured against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...core import Candidate
from .conditions import Conditions
from .environment import Graph, Integers

if TYPE_CHECKING:
    from .gflownet import GFlowNet

Vector = NDArray[np.float64]


def layers(graph: Graph) -> Iterator[tuple[Integers, Integers, Integers]]:
    """All states of a graph, layer by layer: a layer has the n states so many steps away, (n, S).

    With each come the steps that lead on, but *stop*: rows (k,) of this layer and actions (k,).
    """
    layer = graph.first()[None]
    while len(layer):
        rows, actions = np.nonzero(graph.allowed(layer)[:, : graph.stop])
        yield layer, rows, actions
        layer = np.unique(graph.step(layer[rows], actions), axis=0)


def terminating_distributions(
    net: GFlowNet, weights: Vector, beta: float
) -> tuple[list[Candidate], NDArray[np.float64]]:
    """All n candidates of a graph, and P(x | w, β) for each of m preferences (m, d): (m, n).

    The policy's mass is pushed through all states; nothing is sampled.
    """
    graph = net.environment
    assert isinstance(graph, Graph)
    many = len(weights)
    candidates: list[Candidate] = []
    ended: list[NDArray[np.float64]] = []
    coming: dict[bytes, NDArray[np.float64]] = {graph.first().tobytes(): np.ones(many)}
    for layer, rows, actions in layers(graph):
        count = len(layer)
        conditions = Conditions(weights.repeat(count, axis=0), np.full(many * count, beta))
        features, mask = graph.encode(layer), graph.allowed(layer)
        chances = net.action_probabilities(
            conditions, np.tile(features, (many, 1)), np.tile(mask, (many, 1))
        ).reshape(many, count, -1)
        here = np.column_stack([coming[state.tobytes()] for state in layer])
        ends = mask[:, graph.stop]
        candidates += [graph.candidate(state) for state in layer[ends]]
        ended.append((here * chances[:, :, graph.stop])[:, ends])
        moving = here[:, rows] * chances[:, rows, actions]
        coming = {}
        for state, mass in zip(graph.step(layer[rows], actions), moving.T, strict=True):
            key = state.tobytes()
            coming[key] = coming.get(key, 0.0) + mass
    return candidates, np.concatenate(ended, axis=1)


def terminating_distribution(net: GFlowNet, weights: Sequence[float], beta: float) -> dict[Candidate, float]:
    """P(x | w, β) of every candidate of a graph, for one preference."""
    candidates, (found,) = terminating_distributions(net, np.array([weights], np.float64), beta)
    return dict(zip(candidates, found.tolist(), strict=True))


def target(log_rewards: Vector) -> tuple[Vector, float]:
    """P ∝ R^β and log Z from β log R (n,) of all candidates."""
    top = log_rewards.max()
    weights = np.exp(log_rewards - top)
    return weights / weights.sum(), float(top + np.log(weights.sum()))


def distance(p: Vector, q: Vector) -> float:
    """Σ |p - q|, between 0 and 2."""
    return float(np.abs(p - q).sum())


def jensen_shannon(p: Vector, q: Vector) -> float:
    """Jensen-Shannon divergence in nats."""
    middle = (p + q) / 2

    def divergence(one: Vector) -> float:
        on = one > 0
        return float((one[on] * np.log(one[on] / middle[on])).sum())

    return (divergence(p) + divergence(q)) / 2


def rank_correlation(p: Vector, q: Vector) -> float:
    """Spearman's rank correlation; 0 where either is constant."""
    from scipy import stats as _stats

    stats: Any = _stats  # its types leave much unknown
    constant = np.ptp(p) == 0 or np.ptp(q) == 0
    return 0.0 if constant else float(stats.spearmanr(p, q).statistic)


def served_utility(chances: Vector, weights: Vector, rewards: Vector) -> float:
    """Mean over preferences (m, d) of the expected weighted reward: chances (m, n), rewards (n, d).

    The one cheap number that shows whether the preference is used; a pooled hypervolume can't.
    """
    return float((chances * (weights @ rewards.T)).sum(axis=1).mean())
