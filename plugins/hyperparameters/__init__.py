"""The search space that a job file declares by itself."""

from __future__ import annotations

from collections.abc import Sequence

from ...core import SearchSpace, hookimpl
from .space import Hyperparameters


@hookimpl
def search_spaces() -> Sequence[type[SearchSpace]]:
    """Give the space `hyperparameters`."""
    return (Hyperparameters,)
