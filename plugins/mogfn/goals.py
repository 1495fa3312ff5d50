"""Goals that can't be reached: moved afterwards to where a walk led, or rarely asked for any more.

Roy et al., "Goal-conditioned GFlowNets for Controllable Multi-Objective Molecular Design", arXiv 2306.04620:
hindsight, and a tabular model of which goals are feasible.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .conditions import Conditions
from .scalarise import FOCUS, cosine

Values = NDArray[np.float64]

CELLS = 30
"""Cells of the table along each objective's share."""
MISSED = 0.1
"""How much less a goal is drawn from a cell where all missed."""


def hindsight(told: Conditions, rewards: Values, rng: np.random.Generator) -> Conditions:
    """Make what was reached, rewards (n, d), the goal of half of the walks, so that goals are met at all."""
    sums = rewards.sum(axis=1)
    moved = (rng.random(len(sums)) < 0.5) & (sums > 0)
    reached = rewards / np.where(moved, sums, 1.0)[:, None]
    return Conditions(np.where(moved[:, None], reached, told.weights), told.beta)


class Reachable:
    """A table over directions: where goals were told, and where some walk has met one, or has led."""

    def __init__(self) -> None:
        self._tried: set[bytes] = set()
        self._reached: set[bytes] = set()

    def learn(self, goals: Values, rewards: Values) -> None:
        """Take note of walks told goals (n, d), and of their rewards (n, d)."""
        rewards = np.maximum(rewards, 0)
        led = rewards[rewards.sum(axis=1) > 0]
        self._tried |= set(_cells(goals))
        self._reached |= set(_cells(led / led.sum(axis=1, keepdims=True)))
        self._reached |= set(_cells(goals[cosine(goals, rewards) >= FOCUS]))

    def weigh(self, goals: Values) -> Values:
        """How likely goals (n, d) are to be drawn, up to a factor: (n,)."""
        missed = self._tried - self._reached
        return np.array([MISSED if cell in missed else 1.0 for cell in _cells(goals)])

    def choose(self, goals: Values, count: int, rng: np.random.Generator) -> Values:
        """Choose among goals (n, d): (count, d)."""
        weights = self.weigh(goals)
        return goals[rng.choice(len(goals), count, replace=False, p=weights / weights.sum())]


def _cells(goals: Values) -> list[bytes]:
    """Names of the cells that goals (n, d) of sum 1 lie in."""
    places = np.minimum(goals * CELLS, CELLS - 1).astype(np.uint8)
    return [row.tobytes() for row in places]
