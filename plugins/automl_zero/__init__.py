"""AutoML-Zero (arXiv 2003.03384), made small: programs for a register machine that learn."""

from __future__ import annotations

from collections.abc import Sequence

from ...core import Program, SearchSpace, hookimpl
from .program import AutoMLZeroProgram
from .space import AutoMLZero


@hookimpl
def search_spaces() -> Sequence[type[SearchSpace]]:
    """The space."""
    return [AutoMLZero]


@hookimpl
def programs() -> Sequence[type[Program]]:
    """The program."""
    return [AutoMLZeroProgram]
