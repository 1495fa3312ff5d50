"""Fingerprints: names for candidates under which equal ones share a result."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from .candidate import Candidate
from .plugin import Kind, OptionsT, Plugin
from .space import SearchSpace
from .task import Task


@dataclass(frozen=True)
class Key:
    """One name of a candidate. `tier` says how it was made: "exact", "structural", "functional".

    A functional key is a digest of rounded numbers. `shifted` is its second name, rounded on the grid
    that is shifted by half a quantum: two prints that agree in either name meet, so that a number on the
    edge of a cell doesn't split a class.
    """

    tier: str
    digest: str
    shifted: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The digests that the key goes by."""
        return (self.digest,) if self.shifted is None else (self.digest, self.shifted)


@dataclass(frozen=True)
class Print:
    """A candidate's keys, cheapest tier first, and the numbers behind the last, where there are any.

    Recall looks the keys up in order and serves the first that is known. A match of a key whose print has
    a signature is verified: v and the stored v' agree when every |v - v'| <= atol + rtol * |v'|.
    `token` names the degenerate class that a candidate belongs to ("nan", "inf", "constant",
    "crash: ValueError"): these are large, and are counted apart. An empty `keys` means that the candidate
    can't be fingerprinted and is simply run.
    """

    keys: tuple[Key, ...]
    signature: tuple[float, ...] = ()
    atol: float = 0.0
    rtol: float = 0.0
    token: str | None = None


NO_PRINT = Print(())
"""Of a candidate that can't be fingerprinted."""


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

    incidental: ClassVar[frozenset[str]] = frozenset()
    """Options that never change a key (limits, audits): with other values of them, the memory is the same."""

    def prepare(self) -> None:
        """Make ready, when a stage begins: start processes, load tables. Its time isn't a candidate's.

        Called off the driver's main thread, once before any `compute`, or not at all. Errors are left to
        `compute`.
        """

    def at_sight(self, candidate: Candidate, space: SearchSpace) -> tuple[Key, ...]:
        """The first keys of the candidate's print, where they come much cheaper than the rest.

        Where they lead recall to a class, the rest isn't computed. The default gives none.
        """
        return ()

    @abstractmethod
    def compute(self, candidate: Candidate, space: SearchSpace, task: Task) -> Print:
        """Compute the print. Deterministic across processes and machines."""

    def explain(self, first: Candidate, second: Candidate, space: SearchSpace, task: Task) -> Sequence[str]:
        """Say, tier by tier, whether two candidates are one to this fingerprint, and why.

        The default compares their keys; a fingerprint that knows more says where they part.
        """
        one, two = (self.compute(candidate, space, task) for candidate in (first, second))
        lines: list[str] = []
        for tier in dict.fromkeys(key.tier for key in (*one.keys, *two.keys)):
            names = [
                {name for key in found.keys if key.tier == tier for name in key.names} for found in (one, two)
            ]
            verdict = "equal" if names[0] & names[1] else "different" if all(names) else "only one has a key"
            lines.append(f"{tier}: {verdict}")
        return lines or ["neither candidate has a key"]
