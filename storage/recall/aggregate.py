"""Means and standard errors over a class's evaluations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev


def mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each name that all rows have; of a single row, its very values."""
    if len(rows) == 1:
        return dict(rows[0])
    names = [name for name in rows[0] if all(name in row for row in rows)]
    return {name: fmean(row[name] for row in rows) for name in names}


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean; infinite for a single value."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
