"""Functional hashing (arXiv 2302.05433): candidates that compute the same share a result."""

from __future__ import annotations

from collections.abc import Sequence

from ...core import Fingerprint, hookimpl
from .fingerprint import FunctionalHash


@hookimpl
def fingerprints() -> Sequence[type[Fingerprint]]:
    """The fingerprint."""
    return [FunctionalHash]
