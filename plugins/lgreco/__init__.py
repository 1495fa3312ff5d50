"""L-GreCo: layer-wise adaptive gradient compression (arXiv 2210.17357)."""

from __future__ import annotations

from collections.abc import Sequence

from ...core import ParallelStrategy, hookimpl
from .strategy import LGreco


@hookimpl
def parallel_strategies() -> Sequence[type[ParallelStrategy]]:
    """The strategies."""
    return [LGreco]
