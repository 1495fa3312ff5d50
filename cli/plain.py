"""The same progress as plain lines, where there is no terminal: a log file, a pipe, CI."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

from .progress import Progress, StageProgress
from .words import number, pairs, plural, seconds

if TYPE_CHECKING:
    from ..core.hookspecs import TrialEvent

ONE_BY_ONE = 100
"""Trials of a stage that get a line of their own; after them, a line every few seconds."""

EVERY = 5.0


class PlainView:
    """Writes whole lines and flushes each."""

    def __init__(self, progress: Progress, stream: TextIO) -> None:
        self.progress = progress
        self.stream = stream
        self._lines = 0
        self._summed_at = 0.0

    def job_started(self) -> None:
        """Name the job."""
        self._write(f"job {self.progress.job}")

    def stage_started(self, stage: StageProgress) -> None:
        """Name the stage and its size."""
        self._lines = 0
        size = plural(stage.planned, "trial") if stage.planned else "trials until time is up"
        before = f", {stage.done} of them done before" if stage.done else ""
        self._write(f"stage {stage.name}: {size}{before}")

    def trial_finished(self, stage: StageProgress, event: TrialEvent) -> None:
        """One line, or one every few seconds."""
        self._lines += 1
        if self._lines > ONE_BY_ONE:
            if time.monotonic() - self._summed_at >= EVERY:
                self._sum_up(stage)
            return
        done = f"{stage.done}/{stage.planned}" if stage.planned else str(stage.done)
        told = pairs(event.values)
        if event.state not in ("finished", "recalled") and event.reason:
            told = f"{told}  {event.reason.splitlines()[0]}".strip()
        self._write(f"{stage.name} #{event.number} {event.state} [{done}]  {told}")

    def stage_finished(self, stage: StageProgress) -> None:
        """The stage's sums."""
        self._sum_up(stage)

    def close(self) -> None:
        """Nothing to clear."""

    def _sum_up(self, stage: StageProgress) -> None:
        self._summed_at = time.monotonic()
        counts = ", ".join(f"{count} {state}" for state, count in sorted(stage.counts.items()))
        best = "".join(f"; best {name} {number(value)}" for name, (value, _) in stage.best.items())
        volume = f"; hypervolume {number(stage.hypervolume)}" if stage.hypervolume is not None else ""
        left = stage.left(self._summed_at)
        rest = f"; about {seconds(left)} left" if left is not None else ""
        self._write(f"stage {stage.name} {stage.state}: {counts or 'nothing done'}{best}{volume}{rest}")

    def _write(self, line: str) -> None:
        self.stream.write(f"{line}\n")
        self.stream.flush()
