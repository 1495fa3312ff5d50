"""`orchestrate logs`: what happened in a job, in order of time."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import options as opt
from ..words import pairs

if TYPE_CHECKING:
    from ...storage.catalog import Catalog
    from ...storage.models import JobRow, TrialRow

EXAMPLES = """
    orchestrate logs quickstart
    orchestrate logs quickstart --follow
    orchestrate logs quickstart --trial 17
"""

POLL_SECONDS = 1.0
STAMP = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}) ")


@dataclass(frozen=True)
class Entry:
    """Something that happened. `key` names it, so that it is shown once."""

    at: datetime
    key: str
    text: str


def logs(
    job: opt.AnyJob = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    trial: Annotated[
        int | None,
        typer.Option("--trial", min=0, metavar="N", help="Only trials with this number.", show_default=False),
    ] = None,
    catalog: opt.CatalogUrl = None,
) -> None:
    """Show a job's events, its trials' failures with tracebacks, and its driver's log.

    The driver's log is there when the job ran from this folder (or $ORCHESTRATE_HOME); of a job that was
    sent to a cluster, what its driver printed there comes last.
    """
    from ..jobs import OVER, find, opened
    from ..running import log_path

    settings = opt.settings(catalog=catalog)
    with opened(settings) as store:
        row = find(store, job)
        file = log_path(settings.home, row.id)
        seen: set[str] = set()
        while True:
            row = store.job(row.id)
            ended = row.state in (*OVER, "interrupted", "paused") or not store.owned(row.id)
            entries = [*_events(store, row, trial), *(_driver(file) if trial is None else ())]
            for entry in sorted(entries, key=lambda entry: (entry.at, entry.key)):
                if entry.key not in seen:
                    seen.add(entry.key)
                    typer.echo(f"{entry.at.astimezone():%Y-%m-%d %H:%M:%S} {entry.text}")
            if not follow or ended:
                break
            time.sleep(POLL_SECONDS)
    if trial is None and "remote" in row.provenance:
        _print_remote(row)


def _print_remote(row: JobRow) -> None:
    """What the driver printed on the cluster: why it didn't start, if so."""
    from ...core.errors import ClusterError
    from ...scheduler.remote import logs as printed

    place = row.provenance["remote"]
    try:
        typer.echo(f"\nPrinted by the driver on {place['address']}:\n{printed(place)}")
    except ClusterError as error:
        typer.echo(f"\nWhat the driver printed can't be had: {error}", err=True)


def _events(store: Catalog, job: JobRow, trial: int | None) -> Iterator[Entry]:
    if trial is None:
        yield Entry(job.created_at, "job created", f"job {job.id} created")
        if job.ended_at is not None:
            yield Entry(
                job.ended_at, f"job {job.state} {job.ended_at}", f"job {job.state}. {job.reason}".rstrip()
            )
    for stage in store.stages(job.id):
        if trial is None and stage.started_at is not None:
            yield Entry(stage.started_at, f"{stage.id} started", f"stage {stage.name} started")
        if trial is None and stage.ended_at is not None:
            text = f"stage {stage.name} {stage.state}. {stage.reason}".rstrip()
            yield Entry(stage.ended_at, f"{stage.id} {stage.state} {stage.ended_at}", text)
        for row in store.trials(stage_id=stage.id):
            if trial in (None, row.number):
                yield from _trial(store, row, f"{stage.name} #{row.number}", whole=trial is not None)


def _trial(store: Catalog, row: TrialRow, name: str, *, whole: bool) -> Iterator[Entry]:
    yield Entry(row.created_at, f"{row.id} proposed", f"{name} proposed")
    if whole or row.attempts > 1 or row.state in ("failed", "lost"):
        for attempt in store.attempts(row.id):
            key = f"{row.id} attempt {attempt.number}"
            yield Entry(attempt.started_at, f"{key} started", f"{name} attempt {attempt.number} started")
            if attempt.ended_at is not None and attempt.state != "finished":
                cause = f"\n{_indented(attempt.error['traceback'])}" if attempt.error else ""
                text = f"{name} attempt {attempt.number} {attempt.state}{cause}"
                yield Entry(attempt.ended_at, f"{key} {attempt.state}", text)
    if whole:
        for report in store.reports(row.id):
            text = f"{name} step {report.step}: {pairs(report.metrics)}"
            yield Entry(report.at, f"{row.id} step {report.step}", text)
    if row.ended_at is not None:
        reason = f". {row.reason.splitlines()[0]}" if row.reason else ""
        values = f"  {pairs(row.values)}" if row.values else ""
        yield Entry(row.ended_at, f"{row.id} {row.state}", f"{name} {row.state}{values}{reason}")


def _driver(file: Path) -> Iterator[Entry]:
    """The driver's log, a line with a time and what follows it an entry."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return
    at, text, number = None, "", 0
    for number, line in enumerate(lines):
        stamp = STAMP.match(line)
        if stamp is None:
            text += f"\n  {line}"
            continue
        if at is not None:
            yield Entry(at, f"driver {number}", text)
        at, text = datetime.fromisoformat(stamp[1]).astimezone(), f"driver {line[stamp.end() :]}"
    if at is not None:
        yield Entry(at, f"driver {number + 1}", text)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines())
