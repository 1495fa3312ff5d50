"""Fingerprints: names for candidates under which equal ones share a result."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from .candidate import Candidate
from .plugin import Kind, OptionsT, Plugin
from .space import SearchSpace
from .task import Task


@dataclass(frozen=True)
class Key:
    """One name of a candidate. `tier` says how it was made: "exact", "structural", "functional"."""

    tier: str
    digest: str


@dataclass(frozen=True)
class Print:
    """A candidate's keys, cheapest tier first, and the numbers behind the last, where there are any.

    Recall looks the keys up in order and serves the first that is known. An empty `keys` means that
    the candidate can't be fingerprinted and is simply run.
    """

    keys: tuple[Key, ...]
    signature: tuple[float, ...] = ()


class Fingerprint(Plugin[OptionsT]):
    """Computes a candidate's print; what is done with it (claims, look-ups, audit) is the catalog's.

    The context in which two prints may be compared (task digest, space, program and its options,
    plugin versions) is kept by the recall service and need not enter the digest. Called off the
    driver's main thread.
    """

    kind: ClassVar[Kind] = "fingerprint"
    version: ClassVar[int] = 1
    """Raise it whenever the same candidate gets another print: old entries then no longer match."""

    exact: ClassVar[bool] = False
    """Whether equal prints mean equal candidates, so that measured objectives are shared too."""

    @abstractmethod
    def compute(self, candidate: Candidate, space: SearchSpace, task: Task) -> Print:
        """Compute the print. Deterministic across processes and machines."""
