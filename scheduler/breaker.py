"""Counts a stage's failures, and says when they are so many, or so alike, that it should go no further."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..core.spec import RetrySpec
from ..storage.asks import reason_of
from ..storage.models import TrialRow


class Breaker:
    """The failures of one stage. What it returns is why to stop, empty while there is no reason to."""

    def __init__(self, retry: RetrySpec) -> None:
        self._retry = retry
        self._unhappy = 0  # trials failed or lost for good
        self._failure: tuple[str, str] | None = None  # of the last attempt, if it failed: exception and line
        self._alike = 0  # failures like it, without another end between them

    def restore(self, rows: Iterable[TrialRow]) -> None:
        """Count what an earlier driver saw: all trials of the stage."""
        self._unhappy = sum(row.state in ("failed", "lost") and row.attempts > 0 for row in rows)

    def succeeded(self) -> None:
        """A trial ended well."""
        self._failure = None

    def gave_up(self, reason: str) -> str:
        """A trial failed, or was lost, for good."""
        self._unhappy += 1
        budget = self._retry.budget
        if budget is None or self._unhappy <= budget:
            return ""
        return (
            f"{self._unhappy} trials failed or were lost, more than retry.budget: {budget}. "
            f"The last: {reason}"
        )

    def failed(self, error: Mapping[str, Any]) -> str:
        """An attempt failed. Failures that are all alike are the code's fault, not the candidates'."""
        failure = (error["type"], error.get("frame", ""))
        self._alike = self._alike + 1 if failure == self._failure else 1
        self._failure = failure
        limit = self._retry.identical
        if limit is None or self._alike < limit:
            return ""
        where = f" at {failure[1]}" if failure[1] else ""
        return (
            f"{self._alike} attempts in a row failed with the same {failure[0]}{where} "
            f"({reason_of(error)}): mend the cause and resume the job, or raise `retry: {{identical: …}}`"
        )
