"""Loss functions as expressions: a small space in the style of arXiv 1905.11528 and 2101.03958."""

from __future__ import annotations

from collections.abc import Sequence

from ...core import Program, SearchSpace, hookimpl
from .program import TrainWithLoss
from .space import SymbolicLoss


@hookimpl
def search_spaces() -> Sequence[type[SearchSpace]]:
    """The space."""
    return [SymbolicLoss]


@hookimpl
def programs() -> Sequence[type[Program]]:
    """The program."""
    return [TrainWithLoss]
