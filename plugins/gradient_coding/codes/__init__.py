"""Gradient codes: which chunks a worker sums with which coefficients, and how replies decode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import TOLERANCE, Code, UndecodableError, Weights
from .cyclic import CyclicMDS, RandomCyclic
from .expander import Expander
from .repetition import FractionalRepetition

__all__ = [
    "TOLERANCE",
    "Code",
    "CyclicMDS",
    "Expander",
    "FractionalRepetition",
    "RandomCyclic",
    "UndecodableError",
    "Weights",
    "make",
]

KINDS: Mapping[str, type[Code]] = {
    kind.name: kind for kind in (FractionalRepetition, RandomCyclic, CyclicMDS, Expander)
}


def make(described: Mapping[str, Any]) -> Code:
    """Make the code that `Code.describe` told of.

    Raises:
        KeyError: there is none of that name.
    """
    arguments = {key: value for key, value in described.items() if key not in ("name", "digest")}
    return KINDS[described["name"]](**arguments)
