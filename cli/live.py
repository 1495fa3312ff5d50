"""The live view of a running job, in a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .console import STYLES
from .progress import Progress, StageProgress
from .words import number, pairs, seconds

if TYPE_CHECKING:
    from ..core.hookspecs import TrialEvent

SHOWN = ("recalled", "infeasible", "pruned", "failed", "lost", "cancelled")
"""States that get a column once a trial has ended in them."""


class LiveView:
    """Redraws four times a second, above what follows; leaves nothing behind when closed."""

    def __init__(self, progress: Progress, console: Console) -> None:
        self.progress = progress
        self.live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)

    def job_started(self) -> None:
        """Start drawing."""
        self.live.start(refresh=True)

    def stage_started(self, stage: StageProgress) -> None:
        """Drawn at the next tick."""

    def trial_finished(self, stage: StageProgress, event: TrialEvent) -> None:
        """Drawn at the next tick."""

    def stage_finished(self, stage: StageProgress) -> None:
        """Drawn at the next tick."""

    def close(self) -> None:
        """Stop drawing and clear."""
        self.live.stop()

    def _render(self) -> RenderableType:
        with self.progress.lock:
            return render(self.progress, time.monotonic())


def render(progress: Progress, now: float) -> RenderableType:
    """Draw the state: a line a stage, the best so far, the last trials."""
    parts: list[RenderableType] = [_heading(progress, now), _stages(progress)]
    current = next((stage for stage in progress.stages.values() if stage.state == "running"), None)
    current = current or next((stage for stage in reversed(progress.stages.values()) if stage.best), None)
    if current is not None and current.best:
        parts.append(_best(current))
    if progress.last:
        parts += [Text(""), *(_trial(stage, event) for stage, event in progress.last)]
    return Group(*parts)


def _heading(progress: Progress, now: float) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(progress.job or "job", style="bold")
    text.append(f"  {seconds(now - progress.begun)}")
    left = [stage.left(now) for stage in progress.stages.values() if stage.state == "running"]
    if left and left[0] is not None:
        text.append(f", about {seconds(left[0])} left in this stage")
    if progress.phase:
        text.append(f"  {progress.phase} …", style="yellow")
    return text


def _stages(progress: Progress) -> Table:
    counts = {name: stage.counts for name, stage in progress.stages.items()}
    shown = [state for state in SHOWN if any(count[state] for count in counts.values())]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("stage", overflow="ellipsis", no_wrap=True, max_width=24)
    table.add_column("", width=16)
    for heading in ("done", "running", *shown):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, stage in progress.stages.items():
        total = stage.planned or None
        waits = stage.state == "waiting"
        table.add_row(
            Text(name, style="dim" if waits else ""),
            ProgressBar(total=total or 1, completed=min(stage.done, total) if total else 0, width=16),
            "-" if waits else f"{stage.done}/{total}" if total else str(stage.done),
            str(len(stage.running)) if stage.running else "-",
            *(Text(str(counts[name][state] or "-"), style=STYLES.get(state, "")) for state in shown),
        )
    return table


def _best(stage: StageProgress) -> RenderableType:
    best = ", ".join(f"{name} {number(value)} (#{trial})" for name, (value, trial) in stage.best.items())
    lines = [Text(f"best: {best}")]
    if stage.hypervolume is not None:
        lines.append(Text(f"hypervolume: {number(stage.hypervolume)} {stage.reference_text()}"))
    return Group(Text(""), *lines)


def _trial(stage: str, event: TrialEvent) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{stage} #{event.number} ", style="dim")
    text.append(event.state, style=STYLES.get(event.state, ""))
    values = pairs(event.values)
    text.append(f"  {values}")
    if event.state not in ("finished", "recalled") and event.reason:
        text.append(f"  {event.reason.splitlines()[0]}", style="dim")
    return text
