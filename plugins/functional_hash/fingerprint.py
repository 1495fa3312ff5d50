"""The fingerprint `functional-hash`: candidates share a result when they compute the same."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import ClassVar

from ...core import Candidate, Fingerprint, Key, Print, SearchSpace, Task, digest
from ...core.probe import Canonical
from .options import FunctionalHashOptions
from .probing import Outcome, can_probe, probe_candidate
from .signature import keyed
from .worker import OutOfLimits, Workers

SAFETY = 50
"""A quantum is so many times larger than the noise of all values together, or there is no functional key."""

log = logging.getLogger(__name__)


class FunctionalHash(Fingerprint[FunctionalHashOptions]):
    """Candidates share a result when they compute the same, whatever they look like.

    Up to three keys, the cheapest first. *Exact*: the candidate's own digest. *Structural*: the digest
    of its canonical form, where the space gives one. *Functional*: the candidate is run on a few frozen
    examples, and what it emits is rounded and digested, together with all that a short run can't show.
    A network's weights are drawn by the values that reach them, so that the order of its modules doesn't
    matter; its outputs in train and eval mode count, and the losses of its first steps.

    A candidate that emits nothing usable is still run: one that crashes, or goes beyond time or memory,
    has no functional key. NaN, infinities and constant outputs are named as the print's `token`.

    Gillard et al., "Unified Functional Hashing in Automatic Machine Learning", arXiv 2302.05433.
    """

    name: ClassVar[str] = "functional-hash"
    summary: ClassVar[str] = "candidates that compute the same share a result"
    version: ClassVar[int] = 1
    incidental: ClassVar[frozenset[str]] = frozenset({"check", "seconds", "memory", "isolate"})

    def __init__(self, options: FunctionalHashOptions | None = None) -> None:
        super().__init__(options)
        self._workers = Workers(self.options) if self.options.isolate else None

    def prepare(self) -> None:
        """Start the process that probes: it imports torch, which takes seconds."""
        if self._workers is not None:
            self._workers.start()

    def at_sight(self, candidate: Candidate, space: SearchSpace) -> tuple[Key, ...]:
        """The keys that take no run. A share of candidates, `check`, isn't known by its structure."""
        if "functional" not in self.options.tiers or not can_probe(space, self.options):
            return ()
        checked = int(candidate.digest[:8], 16) < self.options.check * 2**32
        return tuple(
            key for key in self._written(candidate, space) if not checked or key.tier != "structural"
        )

    def _written(self, candidate: Candidate, space: SearchSpace) -> tuple[Key, ...]:
        keys: list[Key] = []
        if "exact" in self.options.tiers:
            keys.append(Key("exact", candidate.digest))
        if "structural" in self.options.tiers and isinstance(space, Canonical):
            keys.append(Key("structural", digest(["canonical", space.canonical(candidate)])))
        return tuple(keys)

    def compute(self, candidate: Candidate, space: SearchSpace, task: Task) -> Print:
        keys = self._written(candidate, space)
        if "functional" not in self.options.tiers or not can_probe(space, self.options):
            return Print(keys)
        try:
            outcome = self.probe(candidate, space, task)
        except OutOfLimits as error:
            log.warning("no functional key for %s: %s", candidate, error)
            return Print(keys)
        found = functional(outcome, self.options)
        return Print((*keys, *found.keys), found.signature, found.atol, found.rtol, found.token)

    def explain(self, first: Candidate, second: Candidate, space: SearchSpace, task: Task) -> Sequence[str]:
        from .difference import differences

        lines = [line for line in super().explain(first, second, space, task) if "functional" not in line]
        if "functional" not in self.options.tiers or not can_probe(space, self.options):
            return lines
        try:
            one, two = (self.probe(candidate, space, task) for candidate in (first, second))
        except OutOfLimits as error:
            return [*lines, f"functional: no key, {error}"]
        return [*lines, *differences(one, two, self.options)]

    def probe(self, candidate: Candidate, space: SearchSpace, task: Task) -> Outcome:
        """Run the candidate, in a process of its own unless the options say otherwise.

        Raises:
            OutOfLimits: it took too long, or too much memory, or ended its process; or the machine is at
                fault.
            LostError: the process couldn't be started.
        """
        if self._workers is None:
            try:
                return probe_candidate(candidate, space, task.shape(), self.options)
            except (MemoryError, OSError, ImportError) as error:
                raise OutOfLimits(f"{type(error).__name__}: {error}") from error
        return self._workers.probe(candidate, space, task.shape())


def functional(outcome: Outcome, options: FunctionalHashOptions) -> Print:
    """Turn an outcome into a print with the functional key, or none where noise hides the function.

    Seen from `L` values with noise `d` each, the chance that rounding parts two equal candidates is
    some L d / q; so q >= 50 L d is asked for.
    """
    signature = outcome.signature
    if signature is None:
        return Print((), token=outcome.token)
    if SAFETY * len(signature.values) * signature.noise > outcome.quantum:
        log.warning("no functional key: outputs are uncertain by %.1e", signature.noise)
        return Print((), token=outcome.token)
    first, second = keyed(context(outcome, options), signature.values, outcome.quantum)
    return Print(
        (Key("functional", first, second),),
        signature.finite,
        outcome.quantum,
        outcome.quantum,
        outcome.token,
    )


def context(outcome: Outcome, options: FunctionalHashOptions) -> dict[str, object]:
    """JSON data that belongs to a functional key beside its values."""
    return {
        "version": FunctionalHash.version,
        "adapter": outcome.adapter,
        "quantum": outcome.quantum,
        "semantics": options.semantics,
        "settings": [options.examples, options.repetitions, options.trace],
        "residual": dict(outcome.residual),
    }
