"""NAS-Bench-201 (arXiv 2001.00326): its cell space, and its measured results as a program."""

from __future__ import annotations

from collections.abc import Sequence

from ...core import Program, SearchSpace, hookimpl
from .space import NasBench201
from .tabular import Tabular


@hookimpl
def search_spaces() -> Sequence[type[SearchSpace]]:
    """The space."""
    return [NasBench201]


@hookimpl
def programs() -> Sequence[type[Program]]:
    """The program."""
    return [Tabular]
