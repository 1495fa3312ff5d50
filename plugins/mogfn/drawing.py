"""What a training step's walks are told: preferences, or goals, and inverse temperatures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .conditions import Conditions, covering, dirichlet
from .goals import Reachable
from .options import TrainingOptions

SPARE = 8
"""Goals drawn for each that is told."""
LEARNT = (0.25, 0.75)
"""Part of the training in which it is learnt which goals are reached: not before goals are followed at all,
nor to the end, so that the last part is trained on goals of one kind.
"""


class Drawing:
    """Draws a batch's conditions; those of a group are equal."""

    def __init__(self, options: TrainingOptions, objectives: int) -> None:
        self._options = options
        self._alpha = options.alpha if isinstance(options.alpha, tuple) else (options.alpha,) * objectives
        self._fixed: NDArray[np.float64] | None = None
        if options.preferences in ("lattice", "k-means"):
            self._fixed = covering(objectives, options.fixed, options.preferences)
        self.reachable = Reachable() if options.preferences == "reachable" else None

    def draw(self, done: float, rng: np.random.Generator) -> Conditions:
        """Draw conditions; `done` is the part of the training that is over."""
        groups = self._options.batch // self._options.group
        if self._fixed is not None:
            weights = self._fixed[rng.integers(len(self._fixed), size=groups)]
        elif self.reachable is not None and done >= LEARNT[0]:
            weights = self.reachable.choose(dirichlet(self._alpha, SPARE * groups, rng), groups, rng)
        else:
            weights = dirichlet(self._alpha, groups, rng)
        beta = self._options.beta.draw(groups, rng)
        warmup = self._options.beta.warmup
        if done < warmup:
            beta = 1 + (beta - 1) * done / warmup
        return Conditions(weights.repeat(self._options.group, axis=0), beta.repeat(self._options.group))

    def learn(self, told: Conditions, rewards: NDArray[np.float64], done: float) -> None:
        """Take note of the rewards (n, d) that walks got for their goals."""
        if self.reachable is not None and LEARNT[0] <= done < LEARNT[1]:
            self.reachable.learn(told.weights, rewards)
