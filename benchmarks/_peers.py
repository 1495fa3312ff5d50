"""What other tools do with a candidate that was proposed before, in the loop of our own searches."""

from __future__ import annotations

from orchestrate.core import Candidate, SpaceExhausted
from orchestrate.plugins.samplers.evolution import Evolution

DRAWS = 100
"""PyGlove's attempts to get a candidate that isn't known."""

APART = 1_000_000
"""Numbers of asks that no search reaches: what is drawn anew is asked for under one of these."""


class Redrawn(Evolution):
    """Evolution under PyGlove's deduplication: what was proposed before is drawn again, never fed back."""

    name = "redrawn"
    summary = "evolution that proposes no candidate twice"

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._seen: set[str] = set()

    def ask(self, number: int) -> Candidate:
        for draw in range(DRAWS):
            candidate = super().ask(number + draw * APART)
            if candidate.digest not in self._seen:
                self._seen.add(candidate.digest)
                return candidate
        raise SpaceExhausted(f"{DRAWS} draws in a row were known")
