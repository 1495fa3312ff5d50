"""Gradient coding: exact gradients from many workers without waiting for the slow ones.

`codes` says how partial gradients are combined and recovered, `schemes` who computes what in which
round and when a round may end.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...core import ParallelStrategy, hookimpl
from .strategy import GradientCodingStrategy


@hookimpl
def parallel_strategies() -> Sequence[type[ParallelStrategy]]:
    """The strategy."""
    return [GradientCodingStrategy]
