"""What is to become of a proposed candidate, and by which rules: plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ...core.candidate import digest
from ...core.fingerprint import Print


@dataclass(frozen=True)
class RecallPolicy:
    """Which earlier results may be served, how many a class needs, and when they are dropped.

    `context` is the namespace in which prints are comparable, `scope` whether other jobs' results count.
    The goals' names come in three sets: `shared` ones have one value for all that compute the same;
    `measured` ones are measured anew on each candidate, unless an equal candidate's are known; static ones
    the candidate brings along. `unshared` names the metrics, goals or not, that only an equal candidate
    may take over.
    """

    context: str
    scope: Literal["catalog", "job"]
    shared: frozenset[str]
    measured: frozenset[str] = frozenset()
    unshared: frozenset[str] = frozenset()
    completed: Callable[[Mapping[str, float]], Mapping[str, float]] = dict
    """Adds the values that are computed from others."""
    lead: str | None = None
    """The shared goal that spread, audits and standard errors are judged by."""
    metrics: Mapping[str, str] = field(default_factory=dict[str, str])
    """The metric behind each shared goal: by it a longer run's report answers a shorter run."""
    steps: int | None = None
    """Steps of a run, where the namespace holds runs of several lengths."""
    evaluations: int = 1
    standard_error: float | None = None
    forget_every: int | None = None
    forget_probability: float = 0.0
    max_classes: int | None = None
    ttl: float | None = None
    failures: float | None = None
    audit: float = 0.0
    audit_tolerance: float | None = None

    def memory(self, job_id: str) -> str:
        """Name of the memory: the context, or the job's own part of it.

        A job that recalls only its own results must not be held up by another's claims either.
        """
        return digest([self.context, job_id]) if self.scope == "job" else self.context


@dataclass(frozen=True)
class Recall:
    """It is answered: trial `source_id` scored the same."""

    trial_id: int
    source_id: int
    tier: str
    metrics: Mapping[str, float]
    values: Mapping[str, float]
    reason: str
    served: tuple[int, ...] = ()
    """The evaluations whose mean it is."""
    seconds: float = 0.0
    """What a run would have cost, by the evaluations served."""


@dataclass(frozen=True)
class Launch:
    """Run it: attempt number `attempt`. With `recall` only the measured objectives are still to be made."""

    trial_id: int
    attempt: int
    reason: str
    recall: Recall | None = None


@dataclass(frozen=True)
class Wait:
    """Trial `holder_id`, of this job or another, is running the same: wait for its result."""

    trial_id: int
    holder_id: int
    reason: str


@dataclass(frozen=True)
class Infeasible:
    """It breaks a bound that needs no run to know."""

    trial_id: int
    reason: str


@dataclass(frozen=True)
class Refuse:
    """Trial `source_id`, which computes the same, failed by its own code: so would this one."""

    trial_id: int
    source_id: int
    error: Mapping[str, Any]
    reason: str


@dataclass(frozen=True)
class Failed:
    """Its own code raised before it could be launched."""

    trial_id: int
    reason: str
    error: Mapping[str, Any]


Decision = Launch | Recall | Wait | Infeasible | Refuse | Failed


@dataclass(frozen=True)
class Membership:
    """The class that a trial belongs to, and the tier of the key by which it was recognised."""

    class_id: int
    tier: str


@dataclass(frozen=True)
class Question:
    """A queued trial to be decided on: its next attempt's number, its print, its static values.

    `known` stands in place of the print for a trial that was decided on before.
    """

    trial_id: int
    attempt: int
    print: Print
    values: Mapping[str, float]
    digest: str = ""
    seed: int = 0
    known: Membership | None = None
    hash_seconds: float = 0.0
    waited: float = 0.0
    """Seconds since it was proposed, if it waited for another."""
