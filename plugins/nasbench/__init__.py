"""NAS-Bench-101 and -201 (arXiv 1902.09635, 2001.00326): their cell spaces, and the measured results of the
second as a program.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...core import Program, SearchSpace, hookimpl
from .space import NasBench201
from .space101 import NasBench101
from .tabular import Tabular


@hookimpl
def search_spaces() -> Sequence[type[SearchSpace]]:
    """The spaces."""
    return [NasBench101, NasBench201]


@hookimpl
def programs() -> Sequence[type[Program]]:
    """The program."""
    return [Tabular]
