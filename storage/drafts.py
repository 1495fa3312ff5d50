"""What a driver hands to the ledger: new jobs, proposals, reports, results. Plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ..core.candidate import Candidate
from ..core.fingerprint import NO_PRINT, Print
from .artifacts import NewArtifact


@dataclass(frozen=True)
class JobDraft:
    """A job about to be created. `stages` holds their names, in order."""

    name: str
    spec: dict[str, Any]
    text: str
    seed: int
    provenance: dict[str, Any]
    stages: tuple[str, ...]


@dataclass(frozen=True)
class Proposal:
    """A candidate that a sampler asked for, examined.

    `values` holds the static objectives; `infeasible` says which bound they break, if they do.
    """

    number: int
    candidate: Candidate
    seed: int
    print: Print = NO_PRINT
    values: Mapping[str, float] = field(default_factory=dict[str, float])
    timings: Mapping[str, float] = field(default_factory=dict[str, float])
    infeasible: str | None = None
    error: Mapping[str, Any] | None = None
    """What its own code raised when it was examined: it fails without being launched."""
    after: int | None = None
    """How many of the stage's tells the sampler had heard when it was asked."""


@dataclass(frozen=True)
class Report:
    """Metrics after a step of a running trial."""

    step: int
    metrics: Mapping[str, float]
    at: datetime


@dataclass(frozen=True)
class Result:
    """How a launched trial ended: at its end ("finished"), stopped early ("pruned"), or, where it was
    launched for measured objectives alone, with another's result ("recalled").
    """

    trial_id: int
    state: Literal["finished", "pruned", "recalled"]
    reason: str
    metrics: Mapping[str, float]
    values: Mapping[str, float]
    timings: Mapping[str, float]
    artifacts: Sequence[NewArtifact] = ()
    reports: Sequence[Report] = ()
    node: str = ""
    attempt: int | None = None
    """Which launch it comes from; None: the one that runs."""
    recalled_from: int | None = None
    steps: int | None = None
    """Last step that it reported, where it was stopped early."""
