"""The fingerprint that every job can recall by."""

from __future__ import annotations

from collections.abc import Sequence

from ...core import Fingerprint, hookimpl
from .exact import Exact


@hookimpl
def fingerprints() -> Sequence[type[Fingerprint]]:
    """Give the fingerprints of this folder."""
    return (Exact,)
