"""`orchestrate compression`: what compressing gradients would save."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

    from ...core.job import Job, Stage
    from .advice import Advice, Cost
    from .strategy import LGrecoOptions

EXAMPLES = """Examples:

\b
    orchestrate compression advise job.yaml --workers 8
    orchestrate compression advise job.yaml --gigabits 1 --latency 200
    orchestrate compression advise job.yaml --stage search --steps 500 --json
"""

KEPT = 10  # gradients that the advice is told from, as in a decision's `window`

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@app.callback()
def compression() -> None:
    """See what compressing gradients would save."""


@app.command(epilog=EXAMPLES)
def advise(
    file: Annotated[
        Path, typer.Argument(metavar="JOB.yaml", help="The job file.", exists=True, dir_okay=False)
    ],
    stage: Annotated[
        str | None,
        typer.Option(help="Stage to train in; by default the first with workers, else the first."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=2, help="Ranks that would exchange gradients; by default the stage's, or 4."),
    ] = None,
    steps: Annotated[
        int, typer.Option(min=1, help="Steps of training; the mean gradient of the last ten is looked at.")
    ] = 20,
    gigabits: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            help="Speed of the network in Gbit/s: seconds are told too, with the work of compressing on "
            "this machine.",
            show_default=False,
        ),
    ] = None,
    latency: Annotated[float, typer.Option(min=0, help="Microseconds of a message, with --gigabits.")] = 50.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
) -> None:
    """Train a few steps without compression, and show what each compressor would save.

    A table of bytes, and of seconds where the network's speed is given: without compression, with the
    reference setting in all layers, and with a setting for each layer, within multiples (alpha) of
    the reference's error. Trains a random candidate of the stage in this process; records nothing.
    """
    from ...core.errors import SpecError
    from ...core.registry import Registry
    from ...core.resolver import load
    from .advice import advise as advised
    from .costs import Link
    from .trace import trace

    job = load(file, Registry.discover())
    chosen = _stage(job, file, stage)
    ranks = workers or (chosen.spec.workers.count if chosen.spec.workers else 4)
    with _bar() as progress:
        task = progress.add_task("training", total=steps)
        gradients = trace(job, chosen, ranks, steps, KEPT, lambda: progress.advance(task))
    link = Link(latency * 1e-6, 8e-9 / gigabits) if gigabits else None
    found = advised(gradients, ranks, options=_options(chosen), link=link)
    if not found:
        raise SpecError(
            f"stage {chosen.spec.name}, {ranks} workers: all layers of the network tried are too small to "
            "compress"
        )
    if as_json:
        data = [{**asdict(one), "pays": one.pays} for one in found]
        sys.stdout.write(json.dumps({"stage": chosen.spec.name, "workers": ranks, "advice": data}) + "\n")
    else:
        _show(found, chosen.spec.name, ranks)


def _stage(job: Job, file: Path, name: str | None) -> Stage:
    from ...core.errors import SpecError, near_misses

    names = [stage.spec.name for stage in job.stages]
    if name is None:
        return next((stage for stage in job.stages if stage.spec.workers), job.stages[0])
    if name not in names:
        raise SpecError(f"{file} has no stage {name!r}. {near_misses(name, names)}")
    return job.stage(name)


def _options(stage: Stage) -> list[LGrecoOptions]:
    """Every family at its usual reference; the stage's own at the stage's."""
    from .advice import FAMILIES
    from .strategy import LGreco

    own = stage.strategy.options if isinstance(stage.strategy, LGreco) else None
    return [own if own is not None and own.family == one.family else one for one in FAMILIES]


def _bar() -> Progress:
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    return progress.Progress(console=console, transient=True, disable=not console.is_terminal)


def _show(found: list[Advice], stage: str, ranks: int) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from .families import FAMILIES

    out = Console(highlight=False, markup=False, emoji=False)
    if not out.is_terminal:
        out.width = max(out.width, 120)
    dense = found[0].dense
    out.print(f"Stage {stage}, {ranks} workers. Without compression each sends {_cost(dense)} a gradient.\n")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("reference", header_style="bold")
    for name in ("alpha", "it in all layers", "left out", "a setting for each", "left out", "of dense"):
        table.add_column(name, header_style="bold", justify="right")
    table.add_column("")
    for one in found:
        table.add_row(
            f"{one.family}, {FAMILIES[one.family].parameter} {one.setting:g}",
            f"{one.alpha:g}",
            _cost(one.uniform),
            f"{one.uniform_error:.1%}",
            _cost(one.chosen),
            f"{one.chosen_error:.1%}",
            f"{one.chosen.bytes / one.dense.bytes:.1%}",
            "" if one.pays else "does not pay",
        )
    out.print(table)
    if not any(one.pays for one in found):
        out.print("Nothing pays here: the parallel strategy all-reduce is exact, and faster.")
    out.print(
        "alpha: total error that is allowed, as a multiple of the reference's in all layers.\n"
        "left out: that error, as a share of the gradient; all but qsgd send it with later gradients."
    )


def _cost(cost: Cost) -> str:
    from rich.filesize import decimal

    sent = decimal(round(cost.bytes))
    return sent if cost.seconds is None else f"{sent}, {1e3 * cost.seconds:.3g} ms"
