"""Candidates that are one thing under several names, where the space knows them (`Canonical`).

A policy makes a thing with m names m times as often as it should; divided by m, its reward makes it right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...core import Candidate, Canonical, SearchSpace, SpecError, digest, enumerate_candidates

AliasRule: TypeAlias = Literal["separate", "merge", "correct"]
COUNTED = 50_000
"""Candidates of a space at most for names to be counted."""


class Aliases:
    """Tells which candidates are the same, and how many names a thing has.

    Raises:
        SpecError: the space doesn't know, or is too large for its names to be counted.
    """

    def __init__(self, space: SearchSpace, rule: AliasRule) -> None:
        self._canonical = space if rule != "separate" and isinstance(space, Canonical) else None
        if rule != "separate" and self._canonical is None:
            raise SpecError(
                f"space {space.name!r} doesn't say which of its candidates are the same (it has no method "
                f"`canonical`): leave out `aliases: {rule}`"
            )
        self._count: Counter[str] | None = None
        if rule == "correct":
            size = space.size()
            if size is None or size > COUNTED:
                raise SpecError(
                    f"space {space.name!r} has more than {COUNTED:,} candidates, too many to count which are "
                    "the same: take `aliases: merge`"
                )
            self._count = Counter(map(self.name, enumerate_candidates(space)))

    def name(self, candidate: Candidate) -> str:
        """One name for all candidates that are the same."""
        if self._canonical is None:
            return candidate.digest
        return digest(self._canonical.canonical(candidate))

    def log_multiplicity(self, candidates: Sequence[Candidate]) -> NDArray[np.float64]:
        """Logarithm of the number of candidates that are the same as each; 0 unless they count: (n,)."""
        if self._count is None:
            return np.zeros(len(candidates))
        return np.log([self._count[self.name(one)] for one in candidates])
