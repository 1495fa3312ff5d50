"""Straggler models: which patterns a scheme promises to survive.

A pattern is boolean, (rounds, n): true where a worker straggles. Each model says what holds in every
window of `length` consecutive rounds (Krishnan et al., "Sequential Gradient Coding For Straggler
Mitigation", 2023, section 2). `Model.holds` judges a whole pattern by those words; a `Window` judges
round by round, from the past alone, in O(n).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..codes.base import Mask

Pattern: TypeAlias = NDArray[np.bool_]


class Model(ABC):
    """What holds in each window of a pattern. Fewer stragglers never break a model."""

    @property
    @abstractmethod
    def length(self) -> int:
        """Rounds in a window."""

    @abstractmethod
    def fits(self, window: Pattern) -> bool:
        """Tell whether one window (at most `length` rounds, n) has no more stragglers than allowed."""

    @abstractmethod
    def begin(self, n: int) -> Window:
        """Start to judge round by round."""

    def holds(self, pattern: Pattern) -> bool:
        """Tell whether every window of a pattern (rounds, n) fits."""
        last = max(1, len(pattern) - self.length + 1)
        return all(self.fits(pattern[start : start + self.length]) for start in range(last))


class Window(ABC):
    """The last rounds of a pattern that grows."""

    def __init__(self, n: int, length: int) -> None:
        self._rounds: deque[Mask] = deque()
        self._before = length - 1
        self._count: NDArray[np.int64] = np.zeros(n, dtype=np.int64)

    @abstractmethod
    def admits(self, stragglers: Mask) -> bool:
        """Tell whether the pattern still holds if these (n,) straggle in the next round."""

    def add(self, stragglers: Mask) -> None:
        """The next round is over, and these straggled (n,)."""
        if not self._before:
            return
        self._rounds.append(stragglers.copy())
        self._count += stragglers
        if len(self._rounds) > self._before:
            self._count -= self._rounds.popleft()

    def _distinct(self, stragglers: Mask) -> int:
        """Workers that straggle somewhere in the window that ends with this round."""
        return int(np.count_nonzero((self._count > 0) | stragglers))


@dataclass(frozen=True)
class PerRound(Model):
    """At most `s` stragglers in each round."""

    s: int

    @property
    def length(self) -> int:
        return 1

    def fits(self, window: Pattern) -> bool:
        return bool((window.sum(axis=1) <= self.s).all())

    def begin(self, n: int) -> Window:
        return _PerRound(n, self)


@dataclass(frozen=True)
class Bursty(Model):
    """(B, W, lam)-bursty: in every W rounds at most `lam` distinct workers straggle, and the first
    and the last straggling round of each are at most B - 1 apart.

    Raises:
        ValueError: not 1 <= B < W, or `lam` is negative.
    """

    B: int
    W: int
    lam: int

    def __post_init__(self) -> None:
        if not 1 <= self.B < self.W or self.lam < 0:
            raise ValueError(f"a bursty model needs 1 <= B < W and lambda >= 0, not {self}")

    @property
    def length(self) -> int:
        return self.W

    def fits(self, window: Pattern) -> bool:
        straggles = window.any(axis=0)
        first, last = window.argmax(axis=0), len(window) - 1 - window[::-1].argmax(axis=0)
        return bool(straggles.sum() <= self.lam and (last - first < self.B)[straggles].all())

    def begin(self, n: int) -> Window:
        return _Bursty(n, self)


@dataclass(frozen=True)
class Arbitrary(Model):
    """(N, W, lam)-arbitrary: in every W rounds at most `lam` distinct workers straggle, each in at
    most N rounds.

    Raises:
        ValueError: not 0 <= N < W, or `lam` is negative.
    """

    N: int
    W: int
    lam: int

    def __post_init__(self) -> None:
        if not 0 <= self.N < self.W or self.lam < 0:
            raise ValueError(f"an arbitrary model needs 0 <= N < W and lambda >= 0, not {self}")

    @property
    def length(self) -> int:
        return self.W

    def fits(self, window: Pattern) -> bool:
        count = window.sum(axis=0)
        return bool(np.count_nonzero(count) <= self.lam and (count <= self.N).all())

    def begin(self, n: int) -> Window:
        return _Arbitrary(n, self)


@dataclass(frozen=True)
class BurstyOrPerRound(Model):
    """Every W rounds are bursty, or have at most `s` stragglers each."""

    bursty: Bursty
    s: int

    @property
    def length(self) -> int:
        return self.bursty.W

    def fits(self, window: Pattern) -> bool:
        return self.bursty.fits(window) or PerRound(self.s).fits(window)

    def begin(self, n: int) -> Window:
        return _BurstyOrPerRound(n, self)


class _PerRound(Window):
    def __init__(self, n: int, model: PerRound) -> None:
        super().__init__(n, 1)
        self._s = model.s

    def admits(self, stragglers: Mask) -> bool:
        return int(np.count_nonzero(stragglers)) <= self._s


class _Bursty(Window):
    """`_old` counts the rounds that are in the window but B or more rounds back."""

    def __init__(self, n: int, model: Bursty) -> None:
        super().__init__(n, model.W)
        self._model = model
        self._old = np.zeros(n, dtype=np.int64)

    def admits(self, stragglers: Mask) -> bool:
        return self._distinct(stragglers) <= self._model.lam and not bool(
            (stragglers & (self._old > 0)).any()
        )

    def add(self, stragglers: Mask) -> None:
        leaving = self._rounds[0] if len(self._rounds) == self._before else None
        super().add(stragglers)
        if leaving is not None:
            self._old -= leaving
        if len(self._rounds) >= self._model.B:
            self._old += self._rounds[-self._model.B]


class _Arbitrary(Window):
    def __init__(self, n: int, model: Arbitrary) -> None:
        super().__init__(n, model.W)
        self._model = model

    def admits(self, stragglers: Mask) -> bool:
        return self._distinct(stragglers) <= self._model.lam and not bool(
            (stragglers & (self._count >= self._model.N)).any()
        )


class _BurstyOrPerRound(Window):
    """A window may break the bursty rule and still be within `s` a round, so both are kept."""

    def __init__(self, n: int, model: BurstyOrPerRound) -> None:
        super().__init__(n, model.bursty.W)
        self._model = model
        self._sizes: deque[int] = deque(maxlen=self._before)

    def admits(self, stragglers: Mask) -> bool:
        if max((*self._sizes, int(np.count_nonzero(stragglers)))) <= self._model.s:
            return True
        if self._distinct(stragglers) > self._model.bursty.lam:
            return False
        return self._model.bursty.fits(np.array([*self._rounds, stragglers]))

    def add(self, stragglers: Mask) -> None:
        super().add(stragglers)
        self._sizes.append(int(np.count_nonzero(stragglers)))
