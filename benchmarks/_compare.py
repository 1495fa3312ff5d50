"""Whether two sets of repetitions differ: intervals and tests, so that no verdict is by eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 20_000


@dataclass(frozen=True)
class Difference:
    """Mean of the first sample less that of the second: estimate, 95 % interval, p-value."""

    mean: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        return f"difference {self.mean:+.4f} ({self.low:+.4f} to {self.high:+.4f})"

    @property
    def half_width(self) -> float:
        """What the comparison could not have seen: half the interval's width."""
        return (self.high - self.low) / 2


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """First and third quartile."""
    low, high = np.quantile(values, [0.25, 0.75])
    return float(low), float(high)


def compare(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Compare two independent samples by their means.

    The interval is the percentile bootstrap's; the p-value is a two-sided permutation test's (Efron &
    Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 13 and 15).
    """
    rng = np.random.default_rng(0)
    a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    observed = float(a.mean() - b.mean())
    drawn_a = a[rng.integers(len(a), size=(RESAMPLES, len(a)))].mean(axis=1)
    drawn_b = b[rng.integers(len(b), size=(RESAMPLES, len(b)))].mean(axis=1)
    low, high = np.quantile(drawn_a - drawn_b, [0.025, 0.975])
    pooled = rng.permuted(np.tile(np.concatenate([a, b]), (RESAMPLES, 1)), axis=1)
    shuffled = pooled[:, : len(a)].mean(axis=1) - pooled[:, len(a) :].mean(axis=1)
    as_far = np.count_nonzero(np.abs(shuffled) >= abs(observed) - 1e-12)
    return Difference(observed, float(low), float(high), float((as_far + 1) / (RESAMPLES + 1)))


def paired(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Write the mean of paired differences with its 95 % interval (percentile bootstrap)."""
    differences = np.subtract(ours, theirs)
    rng = np.random.default_rng(0)
    drawn = differences[rng.integers(len(differences), size=(2000, len(differences)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{differences.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of several tests so that the chance of any false alarm keeps its level.

    Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979.
    """
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda one: p_values[one])):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return adjusted
