"""Exact distributions of small environments: what training is measured against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...core import Candidate
from .conditions import Conditions
from .environment import Graph, Integers

if TYPE_CHECKING:
    from .gflownet import GFlowNet

Vector = NDArray[np.float64]


def layers(graph: Graph) -> Iterator[Integers]:
    """All states of a graph, layer by layer, (n, S) each: a layer has the states so many steps away."""
    layer = graph.first()[None]
    while len(layer):
        yield layer
        allowed = graph.allowed(layer)[:, : graph.stop]
        rows, actions = np.nonzero(allowed)
        layer = np.unique(graph.step(layer[rows], actions), axis=0)


def terminating_distribution(net: GFlowNet, weights: Sequence[float], beta: float) -> dict[Candidate, float]:
    """P(x | w, β) of every candidate of a graph: the policy's mass, pushed through all states."""
    graph = net.environment
    assert isinstance(graph, Graph)
    mass: dict[bytes, float] = {graph.first().tobytes(): 1.0}
    ended: dict[Candidate, float] = {}
    for layer in layers(graph):
        conditions = Conditions(
            np.tile(np.asarray(weights, np.float64), (len(layer), 1)), np.full(len(layer), beta)
        )
        chances = net.action_probabilities(conditions, graph.encode(layer), graph.allowed(layer))
        here = np.array([mass.pop(state.tobytes(), 0.0) for state in layer])
        for state, chance in zip(layer, here * chances[:, graph.stop], strict=True):
            ended[graph.candidate(state)] = float(chance)
        rows, actions = np.nonzero(graph.allowed(layer)[:, : graph.stop])
        moved = graph.step(layer[rows], actions)
        for state, chance in zip(moved, here[rows] * chances[rows, actions], strict=True):
            key = state.tobytes()
            mass[key] = mass.get(key, 0.0) + float(chance)
    return ended


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


def served_utility(chances: Vector, weights: Vector, rewards: Vector) -> float:
    """Mean over preferences (m, d) of the expected weighted reward: chances (m, n), rewards (n, d).

    The one cheap number that shows whether the preference is used; a pooled hypervolume can't.
    """
    return float((chances * (weights @ rewards.T)).sum(axis=1).mean())
