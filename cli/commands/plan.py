"""`orchestrate plan`: what a job would do, before it spends anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from .. import options as opt
from ..console import console, print_json, table
from ..words import choices, pairs, plural, seconds

if TYPE_CHECKING:
    from rich.console import Console

    from ...core import Forecast
    from ...core.job import Job
    from ...scheduler.plan import Plan, StagePlan

EXAMPLES = """
    orchestrate plan examples/quickstart.yaml
    orchestrate plan job.yaml --set stages.search.trials=500
    orchestrate plan job.yaml --json | jq '.stages[].seconds'
"""


def plan(
    file: opt.JobFile,
    without: opt.Without = None,
    overrides: opt.Overrides = None,
    address: opt.RayAddress = None,
    cpus: opt.Cpus = None,
    as_json: opt.Json = False,
) -> None:
    """Check a job file and show what it would do. Creates nothing.

    Tries one candidate for one batch where the program can, and shows stages, size of the space, trials,
    workers, an estimate of the time, and whose plugins would run. Exit code 1 when the trial run fails.
    """
    from ...core.registry import Registry, import_from_here
    from ...core.resolver import load

    import_from_here()
    settings = opt.settings(address=address, cpus=cpus, without=without)
    job = load(file, Registry.discover(settings.without), overrides or ())
    raise typer.Exit(0 if show_plan(job, settings, as_json=as_json) else 1)


def show_plan(job: Job, settings: Any, *, as_json: bool) -> bool:
    """Make the plan and print it; tells whether all its rehearsals went well."""
    from ...scheduler import cluster, remote
    from ...scheduler.plan import plan as make_plan

    if settings.remote:
        capacity = remote.capacity(settings)
    elif settings.address:
        cluster.connect(settings)
        capacity = cluster.cluster_capacity()
    else:
        capacity = cluster.local_capacity(settings)
    made = make_plan(job, capacity, None if settings.remote and not settings.catalog else settings)
    if as_json:
        print_json({"ok": made.ok, **made.data()})
    else:
        _print(made)
    return made.ok


def _print(made: Plan) -> None:
    out = console()
    capacity = made.capacity
    out.print(
        f"Job {made.job}: {plural(len(made.stages), 'stage')}, on {capacity.cpu:g} CPU cores and "
        f"{capacity.gpu:g} GPUs\n"
    )
    stages = table(
        "stage",
        "program",
        "sampler",
        "trials",
        "at a time",
        "needs",
        "time",
        right=("trials", "at a time", "time"),
    )
    for stage in made.stages:
        stages.add_row(
            stage.name,
            stage.program,
            stage.sampler,
            "until time is up" if stage.trials is None else f"{stage.trials:,}",
            f"{stage.concurrency} x {stage.batch}" if stage.batch > 1 else str(stage.concurrency),
            _needs(stage),
            _time(stage),
        )
    out.print(stages)
    for stage in made.stages:
        if stage.space_size is not None:
            out.print(f"{stage.name}: space {stage.space} has {stage.space_size:,} candidates")
        elif stage.sampler not in ("take", "none"):
            out.print(
                f"{stage.name}: space {stage.space} has infinitely many candidates, or too many to count"
            )
        if stage.rehearsal is not None:
            _rehearsal(stage)
        if stage.forecast is not None:
            show_forecast(out, stage.name, stage.strategy or "", stage.forecast)
    known = [stage.seconds for stage in made.stages if stage.seconds is not None]
    if known:
        open_end = "" if len(known) == len(made.stages) else " for the stages that can be estimated"
        out.print(f"\nEstimate: about {seconds(sum(known))}{open_end}, if nothing is recalled.")
    plugins = table("plugin", "kind", "from")
    for kind, name, source in made.plugins:
        plugins.add_row(name, kind, f"{source.distribution} {source.version}")
    out.print()
    out.print(plugins)


def show_forecast(out: Console, stage: str, strategy: str, told: Forecast) -> None:
    """Print what a stage's parallel strategy is expected to bring."""
    low, high = told.interval
    out.print(f"{stage}: {strategy}, from {told.source}: {told.reason}")
    ways = table(strategy, "a gradient takes", "saves", right=("a gradient takes", "saves"))
    for way in told.ways:
        interval = f" ({low:.0%} to {high:.0%})" if way.name == told.choice and way.saves else ""
        ways.add_row(way.name, seconds(way.seconds), f"{way.saves:.0%}{interval}" if way.saves else "")
    out.print(ways)
    if told.warning:
        out.print(f"{stage}: {told.warning}", style="yellow")


def _needs(stage: StagePlan) -> str:
    gpus = f", {stage.gpu:g} GPU" if stage.gpu else ""
    each = f"{stage.cpu:g} CPU{gpus}"
    return f"{stage.workers} x ({each})" if stage.workers > 1 else each


def _time(stage: StagePlan) -> str:
    return "?" if stage.seconds is None else f"about {seconds(stage.seconds)}"


def _rehearsal(stage: StagePlan) -> None:
    out, tried = console(), stage.rehearsal
    assert tried is not None
    if tried.error:
        out.print(
            f"{stage.name}: the trial run failed after {seconds(tried.took)}: {tried.error}", style="red"
        )
        return
    values = f"; {pairs(tried.values)}" if tried.values else ""
    bound = f"; infeasible: {tried.infeasible}" if tried.infeasible else ""
    what = f" with {choices(tried.candidate)}" if tried.candidate else ""
    if tried.seconds_per_trial is None:  # no `rehearse`, or it needs an earlier stage's files
        out.print(f"{stage.name}: program {stage.program} isn't tried; it would run{what}{values}{bound}")
        return
    each = f"; a trial takes about {seconds(tried.seconds_per_trial)}"
    out.print(f"{stage.name}: tried for {seconds(tried.took)}{what}{values}{bound}{each}")
