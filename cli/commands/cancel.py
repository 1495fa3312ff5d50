"""`orchestrate cancel`: asks a job's driver, through the catalog, to end it."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from .. import options as opt
from ..console import print_json

EXAMPLES = """
    orchestrate cancel quickstart-x7k2mp
    orchestrate cancel quickstart --wait 60
"""


def cancel(
    job: opt.JobRef,
    wait: Annotated[
        float, typer.Option("--wait", min=0, metavar="SECONDS", help="How long to wait for it.")
    ] = 20,
    catalog: opt.CatalogUrl = None,
    as_json: opt.Json = False,
) -> None:
    """Cancel a job: its running trials are stopped, what was finished stays.

    The driver hears of it within seconds, wherever it runs. A job without a living driver is ended
    here. Exit code 1 when the job had not ended after the wait.
    """
    from ..jobs import OVER, opened

    with opened(opt.settings(catalog=catalog)) as store:
        row = store.job(job)
        store.request_cancel(row.id)
        end = time.monotonic() + wait
        while (row := store.job(row.id)).state not in OVER and time.monotonic() < end:
            time.sleep(0.2)
    if as_json:
        print_json({"id": row.id, "state": row.state, "reason": row.reason})
    elif row.state in OVER:
        typer.echo(f"{row.id} is {row.state}: {row.reason}")
    else:
        typer.echo(f"{row.id} was asked to stop and is still {row.state}; see `orchestrate status {row.id}`")
    raise typer.Exit(0 if row.state in OVER else 1)
