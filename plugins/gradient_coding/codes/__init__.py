"""Gradient codes: which chunks a worker sums with which coefficients, and how replies decode."""

from __future__ import annotations

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
]
