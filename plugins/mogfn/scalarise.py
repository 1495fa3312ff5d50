"""Turns a vector of rewards and a preference into one reward: weighted sum, product, Tchebycheff."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Table: TypeAlias = NDArray[np.float64]
Scalarisation: TypeAlias = Literal["sum", "log-sum", "tchebycheff"]

LEAST = 1e-4
"""Rewards below this count as this much: a logarithm has to stay finite."""
AUGMENTATION = 0.05
"""Weight of the sum beside the Tchebycheff term, so that ties along one objective are broken."""


def log_sum(weights: Table, rewards: Table) -> Table:
    """Give log Σ w_i r_i, the paper's default. Reaches the convex parts of a front only."""
    return np.log(np.maximum((weights * rewards).sum(axis=-1), LEAST))


def sum_of_logs(weights: Table, rewards: Table) -> Table:
    """Give Σ w_i log r_i."""
    return (weights * np.log(np.maximum(rewards, LEAST))).sum(axis=-1)


def tchebycheff(weights: Table, rewards: Table) -> Table:
    """Give the log of 1 - max_i w_i (1 - r_i), augmented by the weighted sum. Reaches concave parts too."""
    worst = (weights * (1 - rewards)).max(axis=-1)
    total = (weights * rewards).sum(axis=-1)
    return np.log(np.maximum((1 - worst + AUGMENTATION * total) / (1 + AUGMENTATION), LEAST))


SCALARISATIONS: Mapping[Scalarisation, Callable[[Table, Table], Table]] = {
    "sum": log_sum,
    "log-sum": sum_of_logs,
    "tchebycheff": tchebycheff,
}
"""Log reward (n,) of rewards (n, d) in [0, 1], to be maximised, under preferences (n, d)."""
