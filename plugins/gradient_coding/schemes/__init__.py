"""Coding schemes as state machines: who computes what in which round, and when a round may end."""

from __future__ import annotations

from .base import Assignment, Closed, Decoding, Part, Scheme, Term, cut
from .coding import Approximation, GradientCoding
from .multiplexed import Multiplexed
from .partial import PartialCoding
from .plain import BackupWorkers, Uncoded
from .selective import SelectiveRepetition

__all__ = [
    "Approximation",
    "Assignment",
    "BackupWorkers",
    "Closed",
    "Decoding",
    "GradientCoding",
    "Multiplexed",
    "Part",
    "PartialCoding",
    "Scheme",
    "SelectiveRepetition",
    "Term",
    "Uncoded",
    "cut",
]
