"""What `submit` and `resume` show of a job sent to a cluster: what its driver prints there, and its end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from .console import print_json
from .jobs import OVER, opened, outcome_data
from .mistakes import FAILED, INTERRUPTED

if TYPE_CHECKING:
    from ..scheduler.settings import Settings


def run_away(job_id: str, settings: Settings, *, detach: bool, as_json: bool, quiet: bool) -> int:
    """Show what the driver prints until it ends; return the exit code. Ctrl-C only stops the showing."""
    from ..scheduler.remote import follow

    if not quiet and not as_json:
        typer.echo(f"job {job_id} was sent to {settings.address}")
    try:
        if not detach:
            with opened(settings) as store:
                remote = store.job(job_id).provenance["remote"]
            for text in follow(remote):
                if not quiet:
                    (sys.stderr if as_json else sys.stdout).write(text)
    except KeyboardInterrupt:
        typer.echo(
            f"\nThe job goes on. `orchestrate logs {job_id} --follow` shows it, "
            f"`orchestrate cancel {job_id}` ends it.",
            err=True,
        )
        return INTERRUPTED
    with opened(settings) as store:
        row = store.job(job_id)
        if as_json:
            print_json(outcome_data(store, row))
    if quiet:
        typer.echo(job_id)
    if detach:
        return 0
    if row.state not in OVER:
        typer.echo(
            f"The driver ended and left the job {row.state}: `orchestrate logs {job_id}` shows why, "
            f"`orchestrate resume {job_id} --address {settings.address}` goes on.",
            err=True,
        )
    return {"finished": 0, "interrupted": INTERRUPTED}.get(row.state, FAILED)
