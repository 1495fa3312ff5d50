"""`orchestrate ui`: MLflow's UI, opened at a job."""

from __future__ import annotations

import signal
from typing import Annotated, Any

import typer

from .. import options as opt

EXAMPLES = """
    orchestrate ui
    orchestrate ui quickstart --port 5050
    orchestrate ui --no-browser
"""


def ui(
    job: opt.AnyJob = None,
    port: Annotated[
        int,
        typer.Option(
            "--port", min=0, max=65535, metavar="N", help="Port; by default a free one.", show_default=False
        ),
    ] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    catalog: opt.CatalogUrl = None,
    tracking: opt.TrackingUri = None,
) -> None:
    """Show a job in MLflow's UI. Starts a server for this machine only; Ctrl-C stops it.

    With a tracking server (--tracking http://…) nothing is started: its address is opened.
    """
    from ...storage.lineage import links, server
    from ..jobs import find, opened

    settings = opt.settings(catalog=catalog, tracking=tracking)
    uri = settings.tracking_uri
    with opened(settings) as store:
        row = find(store, job)
        mirrors = links.mirrors_of(store, row.id, uri)
        backlog = store.backlog(row.id)

    def show(base: str) -> None:
        if mirrors is None:
            afresh = "" if backlog else " --afresh"  # it was sent, and to another store
            typer.echo(
                f"MLflow knows nothing of {row.id} yet: `orchestrate lineage sync {row.id}{afresh}` tells it"
            )
        elif backlog:
            typer.echo(
                f"MLflow lacks {backlog} events of {row.id}: `orchestrate lineage sync {row.id}` sends them"
            )
        page = mirrors.url(base) if mirrors else base
        typer.echo(f"{row.id}: {page}")
        if mirrors:
            typer.echo(f"all runs of {row.name}: {links.experiment_url(base, mirrors.experiment_id)}")
        if not no_browser:
            typer.launch(page)

    if uri.startswith(("http:", "https:")):
        show(uri)
        return
    typer.echo("starting MLflow …", err=True)
    signal.signal(signal.SIGTERM, _stop)  # else the server would outlive this command
    try:
        with server.start(uri, port=port) as running:
            show(running.url)
            typer.echo("Ctrl-C stops the server", err=True)
            raise typer.Exit(running.wait())
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)


def _stop(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt
