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

    def __init__(self, capacity: int, objectives: int) -> None:
        self._candidates: list[Candidate] = []
        self._rewards = np.zeros((capacity, objectives))
        self._places: dict[Candidate, int] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._candidates)

    def add(self, candidates: Sequence[Candidate], rewards: NDArray[np.float64]) -> None:
        """Remember candidates with their rewards (n, d); the oldest make room."""
        for candidate, reward in zip(candidates, rewards, strict=True):
            place = self._places.get(candidate)
            if place is None:
                place, self._next = self._next, (self._next + 1) % len(self._rewards)
                if place < len(self._candidates):
                    del self._places[self._candidates[place]]
                    self._candidates[place] = candidate
                else:
                    self._candidates.append(candidate)
                self._places[candidate] = place
            self._rewards[place] = reward

    def draw(
        self,
        score: Callable[[NDArray[np.float64]], NDArray[np.float64]],
        rng: np.random.Generator,
        each: int = 1,
    ) -> list[Candidate]:
        """Draw `each` candidates a row of `score`, which maps rewards (n, d) to scores (rows, n)."""
        candidates = self._candidates
        scores = score(self._rewards[: len(candidates)])
        best = max(1, round(TOP * len(candidates)))
        top = np.argpartition(-scores, best - 1, axis=1)[:, :best]
        rows = np.arange(len(scores)).repeat(each)
        chosen = np.where(
            rng.random(len(rows)) < 0.5,
            top[rows, rng.integers(best, size=len(rows))],
            rng.integers(len(candidates), size=len(rows)),
        )
        return [candidates[index] for index in chosen.tolist()]
