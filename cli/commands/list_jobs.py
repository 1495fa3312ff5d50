"""`orchestrate list`: the jobs of a catalog."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .. import options as opt
from ..console import console, print_json, styled, table
from ..words import between, seconds, when

EXAMPLES = """
    orchestrate list
    orchestrate list --limit 100 --state running
    orchestrate list --json | jq -r '.[].id'
"""


def list_jobs(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 20,
    state: Annotated[
        str | None,
        typer.Option("--state", metavar="STATE", help="Only jobs in this state.", show_default=False),
    ] = None,
    catalog: opt.CatalogUrl = None,
    as_json: opt.Json = False,
) -> None:
    """List jobs, newest first."""
    from ...core.errors import SpecError, near_misses
    from ...storage.models import JOB_STATES
    from ..jobs import opened, over

    if state is not None and state not in JOB_STATES:
        raise SpecError(f"--state {state}: no job is ever in that state. {near_misses(state, JOB_STATES)}")
    rows: list[dict[str, Any]] = []
    with opened(opt.settings(catalog=catalog)) as store:
        for job in store.jobs(limit=None if state else limit):
            if state is None or job.state == state:
                counts = [store.counts(stage.id) for stage in store.stages(job.id)]
                rows.append(
                    {
                        "id": job.id,
                        "name": job.name,
                        "state": job.state,
                        "driver": "alive" if store.owned(job.id) else "none",
                        "trials": sum(over(count) for count in counts),
                        "recalled": sum(count.get("recalled", 0) for count in counts),
                        "failed": sum(count.get("failed", 0) + count.get("lost", 0) for count in counts),
                        "created_at": job.created_at,
                        "seconds": between(job.started_at, job.ended_at),
                    }
                )
                if len(rows) == limit:
                    break
    if as_json:
        print_json(rows)
        return
    shown = table(
        "job",
        "state",
        "trials",
        "recalled",
        "failed",
        "created",
        "time",
        right=("trials", "recalled", "failed", "time"),
    )
    for row in rows:
        gone = row["state"] in ("created", "running") and row["driver"] == "none"
        shown.add_row(
            row["id"],
            styled("driver gone" if gone else row["state"]),
            f"{row['trials']:,}",
            f"{row['recalled']:,}",
            f"{row['failed']:,}",
            when(row["created_at"]),
            "-" if row["seconds"] is None else seconds(row["seconds"]),
        )
    if rows:
        console().print(shown)
    else:
        typer.echo("No such jobs." if state else "No jobs yet: `orchestrate submit JOB.yaml` makes one.")
