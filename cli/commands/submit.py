"""`orchestrate submit`: runs a job file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .. import options as opt

if TYPE_CHECKING:
    from ...core.job import Job
    from ...scheduler.settings import Settings

EXAMPLES = """
    orchestrate submit examples/quickstart.yaml
    orchestrate submit job.yaml --dry-run
    orchestrate submit job.yaml --set seed=3 --set stages.search.trials=200
    orchestrate submit job.yaml --catalog postgresql://me@db/runs --tracking http://mlflow:5000 --address auto
    orchestrate submit job.yaml --address http://head:8265 --catalog postgresql://me@db/runs --detach
    JOB=$(orchestrate submit job.yaml --quiet)
"""


def submit(
    file: opt.JobFile,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and plan only, like `plan`.")] = False,
    overrides: opt.Overrides = None,
    without: opt.Without = None,
    catalog: opt.CatalogUrl = None,
    tracking: opt.TrackingUri = None,
    address: opt.RayAddress = None,
    ship: opt.Ship = None,
    detach: opt.Detach = False,
    cpus: opt.Cpus = None,
    no_lineage: opt.NoLineage = False,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Run a job file to its end, and show what came out.

    The file is checked as a whole before anything is created. Ctrl-C ends the run cleanly, and
    `orchestrate resume` continues it. Sent to a cluster with --address http://HEAD:8265, the job runs
    on there whatever becomes of this command. Exit codes: 0 finished, 1 failed or cancelled, 2 a mistake in
    the file, 130 interrupted.
    """
    from ...core.registry import Registry, import_from_here
    from ...core.resolver import load

    import_from_here()
    settings = opt.settings(
        catalog=catalog,
        tracking=tracking,
        address=address,
        cpus=cpus,
        without=without,
        lineage=not no_lineage,
    )
    job = load(file, Registry.discover(settings.without), overrides or ())
    if dry_run:
        from .plan import show_plan

        raise typer.Exit(0 if show_plan(job, settings, as_json=as_json) else 1)
    from ...scheduler import driver, remote

    text = file.read_text(encoding="utf-8")
    if settings.remote:
        from ..away import run_away

        job_id = remote.submit(job, text, settings, ship or ())
        raise typer.Exit(run_away(job_id, settings, detach=detach, as_json=as_json, quiet=quiet))
    from ..running import run

    if not (quiet or as_json):
        _foretell(job, settings)
    code = run(
        lambda: driver.submit(job, text, settings), job.registry, settings, as_json=as_json, quiet=quiet
    )
    raise typer.Exit(code)


def _foretell(job: Job, settings: Settings) -> None:
    """Say what parallel strategies are expected to bring, before anything is spent."""
    if not any(stage.strategy is not None and stage.strategy.evidence for stage in job.stages):
        return
    from ...scheduler.plan import forecasts
    from ..console import console

    out = console()
    for stage, told in forecasts(job, settings).items():
        out.print(f"{stage}: {told.reason} (orchestrate plan shows how)")
        if told.warning:
            out.print(f"{stage}: {told.warning}", style="yellow")
