"""Recall: which earlier results answer a proposed candidate, and what becomes of them afterwards."""

from __future__ import annotations

from .audit import AuditReport, audits
from .decide import decide, open_memory
from .decisions import (
    Decision,
    Failed,
    Infeasible,
    Launch,
    Membership,
    Question,
    Recall,
    RecallPolicy,
    Refuse,
    Wait,
)
from .imports import Earlier, imported
from .memory import familiar
from .publish import Outcome, publish
from .statistics import Statistics, statistics
from .tombstones import Buried, invalidate, reasons
from .trace import Served, Source, trace

__all__ = [
    "AuditReport",
    "Buried",
    "Decision",
    "Earlier",
    "Failed",
    "Infeasible",
    "Launch",
    "Membership",
    "Outcome",
    "Question",
    "Recall",
    "RecallPolicy",
    "Refuse",
    "Served",
    "Source",
    "Statistics",
    "Wait",
    "audits",
    "decide",
    "familiar",
    "imported",
    "invalidate",
    "open_memory",
    "publish",
    "reasons",
    "statistics",
    "trace",
]
