"""Counts a stage's proposals and trainings apart, says when either ends it, and whether hashing pays."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..core.job import Stage
from ..storage.models import HitRow, TrialRow

COUNTABLE = 1_000_000
"""Largest space whose candidates are ticked off as they are seen."""


@dataclass
class _Entry:
    spent: float
    saved: float = 0.0


class Account:
    """Accounts of one stage. Trials are named by their numbers."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._trained: set[int] = set()
        self._hits_in_a_row = 0
        self._seen: set[str] = set()
        recall = stage.spec.recall
        self._window = recall.window if recall and stage.fingerprint and not stage.fingerprint.exact else None
        self._latest: deque[_Entry] = deque(maxlen=self._window)
        self._by_number: dict[int, _Entry] = {}
        self._size = stage.space.size() if _settles(stage) else None

    def restore(self, rows: Iterable[TrialRow], hits: Mapping[int, HitRow]) -> None:
        """Count what an earlier driver did: all trials of the stage, and what they were served by id."""
        for row in sorted(rows, key=lambda row: row.number):
            if row.state == "infeasible":
                continue
            self.examined(row.number, row.digest, float(row.timings.get("fingerprint", 0.0)))
            hit = hits.get(row.id)
            if row.state == "recalled" and hit is not None:
                self.answered(row.number, hit.tier, hit.saved_seconds)
            elif row.attempts > 0:
                self.launched(row.number)

    def examined(self, number: int, digest: str, hash_seconds: float) -> None:
        """A feasible candidate was proposed, and hashed for so long."""
        entry = _Entry(hash_seconds)
        self._by_number[number] = entry
        self._latest.append(entry)
        if self._size is not None and self._size <= COUNTABLE:
            self._seen.add(digest)

    def launched(self, number: int) -> None:
        """It is trained."""
        self._trained.add(number)
        self._hits_in_a_row = 0

    def answered(self, number: int, tier: str, seconds: float) -> None:
        """It was answered by a key of `tier`, and would have run for so long.

        Hits on equal candidates earn hashing nothing: they need no hash.
        """
        self._hits_in_a_row += 1
        if tier != "exact" and number in self._by_number:
            self._by_number[number].saved = seconds

    def room(self, undecided: int) -> int | None:
        """How many more may be asked for, if each of them and of the undecided were trained."""
        limit = self._stage.spec.trainings
        return None if limit is None else max(0, limit - len(self._trained) - undecided)

    def why_stop(self) -> str:
        """The rule by which no more is asked for, if there is one."""
        limit = self._stage.spec.trainings
        if limit is not None and len(self._trained) >= limit:
            return f"{limit} candidates were trained, as `trainings` says"
        most = self._stage.spec.recall.max_hits if self._stage.spec.recall else None
        if most is not None and self._hits_in_a_row >= most:
            return (
                f"{most} candidates in a row were answered without a training: the sampler proposes only "
                "what is known. Raise `recall.max_hits` to go on all the same"
            )
        if self._size is not None and len(self._seen) >= self._size:
            return f"all {self._size:,} candidates of the space were proposed"
        return ""

    def loss(self) -> tuple[float, float] | None:
        """Seconds that hashing cost and saved over a full window of trials, when it cost more."""
        if self._window is None or len(self._latest) < self._window:
            return None
        spent = sum(entry.spent for entry in self._latest)
        saved = sum(entry.saved for entry in self._latest)
        return (spent, saved) if spent > saved else None


def _settles(stage: Stage) -> bool:
    """Whether a stage is through when each candidate was proposed once: it has no number of trials to
    reach, and with no chance in evaluations or memory asking again tells nothing.
    """
    recall = stage.spec.recall
    if recall is None or stage.spec.trials is not None:
        return False
    return recall.evaluations == 1 and recall.forget_every is None and recall.forget_probability == 0
