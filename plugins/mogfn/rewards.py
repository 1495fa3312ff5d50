"""Rewards: objective values on a scale of 0 (worst) to 1 (best), whatever their sense and unit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...core import Goal


@dataclass(frozen=True)
class Scale:
    """One goal's scale. `worst` and `best` are values, or their logarithms if `log`."""

    goal: Goal
    worst: float
    best: float
    log: bool = False

    def reward(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map values to rewards: 0 at the worst, 1 at the best, and beyond where values go beyond."""
        return (self.place(values) - self.worst) / (self.best - self.worst)

    def value(self, rewards: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inverse of `reward`."""
        places = self.worst + rewards * (self.best - self.worst)
        return np.exp(places) if self.log else places

    def place(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The value itself, or its logarithm."""
        return np.log(values) if self.log else values


def scale(goal: Goal, values: Sequence[float], bounds: tuple[float, float] | None, log: bool) -> Scale:
    """Make a scale from declared bounds, else from the range of what was seen.

    `log` is given up where a value isn't positive.
    """
    ends = np.asarray(bounds if bounds is not None else (values or (0.0, 1.0)), np.float64)
    log = log and bool(min(ends.min(), min(values, default=math.inf)) > 0)
    low, high = (float(end) for end in (ends.min(), ends.max()))
    if log:
        low, high = math.log(low), math.log(high)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        low, high = low - 0.5, high + 0.5
    return Scale(goal, high, low, log) if goal.direction == "minimize" else Scale(goal, low, high, log)


def table(scales: Sequence[Scale], points: Iterable[Mapping[str, float]]) -> NDArray[np.float64]:
    """Rewards of points: (n, d)."""
    rows = [[point[one.goal.name] for one in scales] for point in points]
    values = np.asarray(rows, np.float64).reshape(-1, len(scales))
    return np.column_stack([one.reward(column) for one, column in zip(scales, values.T, strict=True)])
