"""Plain data parallelism: how a trial's workers share the making of gradients by default."""

from __future__ import annotations

from collections.abc import Sequence

from ...core import ParallelStrategy, hookimpl
from .all_reduce import AllReduce


@hookimpl
def parallel_strategies() -> Sequence[type[ParallelStrategy]]:
    """The strategies."""
    return [AllReduce]
