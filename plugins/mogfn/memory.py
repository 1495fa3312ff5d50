"""Replay: candidates with their rewards, walked again under preferences of the day."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ...core import Candidate, Value

TOP = 0.1
"""Half of what is drawn comes from this part, the best under the condition; the rest from all."""


class Memory:
    """Up to `capacity` different candidates, with rewards (d,) and never a scalar one; the oldest make room.

    What a preference makes of them is computed when they are drawn, so nothing in here goes stale.

    With `apart` it is a diverse memory: a candidate enters where it differs in that many choices from all
    that are in it, or where none of those nearer is as good in every reward; nearer ones that are as good
    in none leave. So of any two that are nearer each is the better one in some reward.
    """

    def __init__(self, capacity: int, apart: int = 0) -> None:
        self._candidates: list[Candidate] = []
        self._rewards = np.zeros((capacity, 0))
        self._places: dict[Candidate, int] = {}
        self._apart = apart
        self._ages = np.zeros(capacity, np.int64)
        self._entered = 0
        self._choices = np.zeros((capacity, 0), np.int64)
        """Numbers of values, a column a choice; 0 where it isn't made."""
        self._columns: dict[str, int] = {}
        self._numbers: dict[tuple[type, Value], int] = {}

    def __len__(self) -> int:
        return len(self._candidates)

    def add(self, candidates: Sequence[Candidate], rewards: NDArray[np.float64]) -> None:
        """Remember candidates with their rewards (n, d)."""
        if not len(self) and self._rewards.shape != (len(self._rewards), rewards.shape[1]):
            self._rewards = np.zeros((len(self._rewards), rewards.shape[1]))
        for candidate, reward in zip(candidates, rewards, strict=True):
            place = self._places.get(candidate)
            if place is None:
                choices = self._numbered(candidate) if self._apart else None
                if choices is not None and not self._make_way(choices, reward):
                    continue
                place = self._enter(candidate)
                if choices is not None:
                    self._choices[place] = choices
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

    def _enter(self, candidate: Candidate) -> int:
        """Give a new candidate a place, the oldest one's where there is no other."""
        place = len(self._candidates)
        if place < len(self._rewards):
            self._candidates.append(candidate)
        else:
            place = int(np.argmin(self._ages))
            del self._places[self._candidates[place]]
            self._candidates[place] = candidate
        self._entered += 1
        self._places[candidate], self._ages[place] = place, self._entered
        return place

    def _make_way(self, choices: NDArray[np.int64], reward: NDArray[np.float64]) -> bool:
        """Whether a candidate may enter; those near it that are worse have left then."""
        differing = np.count_nonzero(self._choices[: len(self)] != choices, axis=1)
        near = np.flatnonzero(differing < self._apart)
        theirs = self._rewards[near]
        if (theirs >= reward).all(axis=1).any():
            return False
        worse: list[int] = near[(theirs <= reward).all(axis=1)].tolist()
        for place in reversed(worse):
            self._leave(place)
        return True

    def _leave(self, place: int) -> None:
        """Forget a candidate; the last one takes its place."""
        del self._places[self._candidates[place]]
        last = self._candidates.pop()
        if place < len(self._candidates):
            self._candidates[place], self._places[last] = last, place
            for table in (self._rewards, self._ages, self._choices):
                table[place] = table[len(self._candidates)]

    def _numbered(self, candidate: Candidate) -> NDArray[np.int64]:
        """A row of `_choices`, which grows by choices that weren't met before."""
        for name in candidate.keys() - self._columns.keys():
            self._columns[name] = len(self._columns)
        missing = len(self._columns) - self._choices.shape[1]
        if missing:
            self._choices = np.pad(self._choices, ((0, 0), (0, missing)))
        row = np.zeros(len(self._columns), np.int64)
        for name, value in candidate.items():
            number = self._numbers.setdefault((type(value), value), len(self._numbers) + 1)
            row[self._columns[name]] = number
        return row
