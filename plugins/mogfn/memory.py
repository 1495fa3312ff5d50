"""Replay: candidates with their rewards, walked again under preferences of the day."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ...core import Candidate

TOP = 0.1
"""Half of what is drawn comes from this part, the best under the condition; the rest from all."""


class Memory:
    """The latest `capacity` different candidates, with rewards (d,) and never a scalar one.

    What a preference makes of them is computed when they are drawn, so nothing in here goes stale.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._rewards: dict[Candidate, NDArray[np.float64]] = {}

    def __len__(self) -> int:
        return len(self._rewards)

    def add(self, candidates: Sequence[Candidate], rewards: NDArray[np.float64]) -> None:
        """Remember candidates with their rewards (n, d)."""
        self._rewards.update(zip(candidates, rewards, strict=True))
        for old in list(self._rewards)[: max(0, len(self._rewards) - self._capacity)]:
            del self._rewards[old]

    def draw(
        self, score: Callable[[NDArray[np.float64]], NDArray[np.float64]], rng: np.random.Generator
    ) -> list[Candidate]:
        """Draw a candidate a row of `score`, which maps rewards (n, d) to scores (rows, n)."""
        candidates = list(self._rewards)
        scores = score(np.array(list(self._rewards.values())))
        best = max(1, round(TOP * len(candidates)))
        top = np.argpartition(-scores, best - 1, axis=1)[:, :best]
        rows = np.arange(len(scores))
        chosen = np.where(
            rng.random(len(scores)) < 0.5,
            top[rows, rng.integers(best, size=len(scores))],
            rng.integers(len(candidates), size=len(scores)),
        )
        return [candidates[index] for index in chosen.tolist()]
