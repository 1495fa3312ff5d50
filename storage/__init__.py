"""Remembers: the catalog (truth), the artifact store, and the lineage that mirrors it to MLflow.

Names are loaded when they are first used: workers need the artifact store alone, without SQLAlchemy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .artifacts import ArtifactStore, NewArtifact
    from .catalog import Catalog
    from .check import Finding
    from .drafts import JobDraft, Proposal, Report, Result
    from .ledger import Ledger
    from .recall import Decision, Infeasible, Launch, Recall, RecallPolicy, Wait

_HOMES = {
    "ArtifactStore": "artifacts",
    "Catalog": "catalog",
    "Decision": "recall",
    "Finding": "check",
    "Infeasible": "recall",
    "JobDraft": "drafts",
    "Launch": "recall",
    "Ledger": "ledger",
    "NewArtifact": "artifacts",
    "Proposal": "drafts",
    "Recall": "recall",
    "RecallPolicy": "recall",
    "Report": "drafts",
    "Result": "drafts",
    "Wait": "recall",
}

__all__ = [
    "ArtifactStore",
    "Catalog",
    "Decision",
    "Finding",
    "Infeasible",
    "JobDraft",
    "Launch",
    "Ledger",
    "NewArtifact",
    "Proposal",
    "Recall",
    "RecallPolicy",
    "Report",
    "Result",
    "Wait",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
