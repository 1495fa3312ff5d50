"""The log reward of a preference: core's scalarisations, and the goal-conditioned variant's direction."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np

from ...core.scalarisation import METHODS, Floats, Method

Scalarisation: TypeAlias = Method | Literal["goal"]
Scalarise: TypeAlias = Callable[[Floats, Floats], Floats]
"""Log reward (n,) of preferences (n, d) and rewards (n, d), to be maximised."""

LEAST = 1e-4
"""Scalar rewards below this count as this much: a logarithm has to stay finite."""
FOCUS = 0.98
"""Least cosine between a candidate's rewards and the goal's direction for it to be in focus."""
SHARPNESS = math.log(0.1) / math.log(FOCUS)
"""Power of the cosine: at the rim of the focus the reward is a tenth."""


def log_scalarise(name: Scalarisation) -> Scalarise:
    """Give the function of this name."""
    if name == "goal":
        return towards
    method = METHODS[name]
    return lambda weights, rewards: np.log(np.maximum(method(rewards, weights), LEAST))


def cosine(goals: Floats, rewards: Floats) -> Floats:
    """Cosine of the angle between goals (n, d) and rewards (n, d): (n,)."""
    norms = np.linalg.norm(rewards, axis=-1) * np.linalg.norm(goals, axis=-1)
    return (rewards * goals).sum(axis=-1) / np.maximum(norms, 1e-12)


def towards(goals: Floats, rewards: Floats) -> Floats:
    """Log of the mean reward times a power of its cosine to the goal; floored where that is out of focus.

    Roy et al., "Goal-conditioned GFlowNets for Controllable Multi-Objective Molecular Design",
    arXiv 2306.04620, section 3.
    """
    close = cosine(goals, rewards)
    inside = np.maximum(rewards.mean(axis=-1), LEAST) * np.maximum(close, LEAST) ** SHARPNESS
    return np.log(np.where(close >= FOCUS, np.maximum(inside, LEAST), LEAST))
