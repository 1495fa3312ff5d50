"""Made-up stragglers: delays of a two-state chain, and patterns that keep to a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .models import Model, Pattern
from .profile import Profile


@dataclass(frozen=True)
class GilbertElliott:
    """Each worker is normal or slow; from round to round it becomes slow with probability `p_slow`
    and normal again with `p_normal` (p_N and p_S in the paper). It begins in its stationary state.

    Raises:
        ValueError: a probability outside [0, 1], or both 0.
    """

    p_slow: float
    p_normal: float

    def __post_init__(self) -> None:
        if not (0 <= self.p_slow <= 1 and 0 <= self.p_normal <= 1 and self.p_slow + self.p_normal > 0):
            raise ValueError(f"needs two probabilities that aren't both 0, not {self}")

    @property
    def slow(self) -> float:
        """Part of the rounds in which a worker is slow, in the long run."""
        return self.p_slow / (self.p_slow + self.p_normal)

    def pattern(self, rounds: int, n: int, rng: np.random.Generator) -> Pattern:
        """Which workers are slow in which rounds, (rounds, n)."""
        states = np.empty((rounds, n), dtype=bool)
        state = rng.random(n) < self.slow
        for index in range(rounds):
            states[index] = state
            draw = rng.random(n)
            state = np.where(state, draw >= self.p_normal, draw < self.p_slow)
        return states


@dataclass(frozen=True)
class Service:
    """Reply times: `base` + Gamma(`shape`, `scale`) seconds, times a uniform factor when slow, plus
    `slope` seconds for each unit of load.
    """

    base: float = 0.7
    shape: float = 2.0
    scale: float = 0.04
    factor: tuple[float, float] = (2.2, 6.0)
    slope: float = 10.0

    def profile(self, slow: Pattern, rng: np.random.Generator, source: str = "") -> Profile:
        """Times for a pattern (rounds, n) of slow workers."""
        seconds = self.base + rng.gamma(self.shape, self.scale, slow.shape)
        seconds = np.where(slow, seconds * rng.uniform(*self.factor, slow.shape), seconds)
        return Profile(seconds, np.zeros(slow.shape), self.slope, source)


def conforming(model: Model, rounds: int, n: int, density: float, rng: np.random.Generator) -> Pattern:
    """A random pattern (rounds, n) that a model admits: in each round workers are tried in random
    order, each with probability `density`, and straggle if the model still admits it.
    """
    window = model.begin(n)
    pattern = np.zeros((rounds, n), dtype=bool)
    for row in pattern:
        for worker in rng.permutation(n)[rng.random(n) < density]:
            row[worker] = True
            if not window.admits(row):
                row[worker] = False
        window.add(row)
    return pattern
