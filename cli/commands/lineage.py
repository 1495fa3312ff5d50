"""`orchestrate lineage`: the record in MLflow."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Annotated

import typer

from .. import options as opt
from ..console import console, print_json
from ..front import Command, Group
from ..words import plural

EXAMPLES = """
    orchestrate lineage sync
    orchestrate lineage register quickstart digits --trial 17 --alias champion
"""
SYNC_EXAMPLES = """
    orchestrate lineage sync
    orchestrate lineage sync quickstart --tracking http://mlflow:5000
    orchestrate lineage sync quickstart --afresh
"""
REGISTER_EXAMPLES = """
    orchestrate lineage register quickstart digits --trial 17
    orchestrate lineage register quickstart digits --trial 17 --alias champion
"""

app = typer.Typer(cls=Group, no_args_is_help=True, rich_markup_mode=None, epilog=EXAMPLES)


@app.callback()
def lineage() -> None:
    """Bring the record in MLflow up to date."""


@app.command(cls=Command, epilog=SYNC_EXAMPLES)
def sync(
    job: Annotated[
        str | None, typer.Argument(metavar="JOB", help="One job; by default every job.", show_default=False)
    ] = None,
    afresh: Annotated[
        bool,
        typer.Option("--afresh", help="Send everything of JOB again, to a store that was lost or is new."),
    ] = False,
    catalog: opt.CatalogUrl = None,
    tracking: opt.TrackingUri = None,
    as_json: opt.Json = False,
) -> None:
    """Send to MLflow what it lacks of a job, or of every job.

    Needed after a job ran with --no-lineage, or while MLflow was down. Nothing is logged twice.
    Exit code 1 when something could not be sent.
    """
    from ...core.errors import SpecError
    from ...storage.lineage import sync as send
    from ..jobs import opened

    if afresh and job is None:
        raise SpecError("--afresh needs a JOB")
    settings = opt.settings(catalog=catalog, tracking=tracking)
    with opened(settings) as store, _bar() as advance:
        job_id = store.job(job).id if job else None
        done = send(store, settings.tracking_uri, job_id, advance, afresh=afresh)
    if as_json:
        print_json({"delivered": done.delivered, "remaining": done.remaining, "error": done.error})
    elif done.delivered or done.remaining:
        left = f", {done.remaining:,} left. {done.error}" if done.remaining else ""
        typer.echo(f"{plural(done.delivered, 'event')} sent{left}")
    else:
        typer.echo("MLflow has everything.")
    raise typer.Exit(1 if done.remaining else 0)


@app.command(cls=Command, epilog=REGISTER_EXAMPLES)
def register(
    job: opt.JobRef,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the registered model.")],
    trial: Annotated[
        int | None,
        typer.Option("--trial", min=0, metavar="N", help="Whose network; needed where there are several."),
    ] = None,
    alias: Annotated[
        str | None, typer.Option("--alias", metavar="ALIAS", help="Alias to point at it, like champion.")
    ] = None,
    catalog: opt.CatalogUrl = None,
    tracking: opt.TrackingUri = None,
    as_json: opt.Json = False,
) -> None:
    """Register a chosen trial's network in MLflow's model registry.

    `mlflow.pyfunc.load_model("models:/NAME@ALIAS")` then loads it. The same network is registered once.
    """
    from dataclasses import asdict

    from ...storage.lineage import register as enter
    from ..jobs import opened

    settings = opt.settings(catalog=catalog, tracking=tracking)
    with opened(settings) as store:
        made = enter(store, settings.tracking_uri, store.job(job).id, name, trial, alias)
    if as_json:
        print_json(asdict(made))
    else:
        pointed = f", alias {made.alias}" if made.alias else ""
        typer.echo(f"trial {made.trial} is version {made.version} of model {made.name}{pointed}")


@contextmanager
def _bar() -> Generator[Callable[[int, int], None]]:
    """A progress bar on stderr, where that is a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    out = console(stderr=True)
    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task("sending", total=None)
        yield lambda sent, known: progress.update(task, completed=sent, total=known)
