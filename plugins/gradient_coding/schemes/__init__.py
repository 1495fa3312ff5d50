"""Coding schemes as state machines: who computes what in which round, and when a round may end."""

from __future__ import annotations

from .base import Assignment, Closed, Decoding, Part, Scheme, Term, cut
from .coding import GradientCoding

__all__ = ["Assignment", "Closed", "Decoding", "GradientCoding", "Part", "Scheme", "Term", "cut"]
