"""Which scheme to use: replays of measured reply times, and a choice that says why."""

from __future__ import annotations

from .candidates import CODED, SCHEMES, Plan, create, families, probes
from .choose import Predicted, Report, compare, search
from .online import Decision, Selector

__all__ = [
    "CODED",
    "SCHEMES",
    "Decision",
    "Plan",
    "Predicted",
    "Report",
    "Selector",
    "compare",
    "create",
    "families",
    "probes",
    "search",
]
