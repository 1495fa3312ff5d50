"""`orchestrate specialize`: a network for a new constraint, out of a job that has trained a supernet."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from .serving import Deployment


def specialize(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help="A job's id, the beginning of one, or its name.")],
    max_macs: Annotated[
        float | None,
        typer.Option("--max-macs", min=0, help="Most multiply-accumulates.", show_default=False),
    ] = None,
    max_parameters: Annotated[
        float | None, typer.Option("--max-parameters", min=0, help="Most parameters.", show_default=False)
    ] = None,
    max_memory: Annotated[
        float | None,
        typer.Option("--max-memory", min=0, help="Most bytes of activations at once.", show_default=False),
    ] = None,
    max_latency_ms: Annotated[
        float | None,
        typer.Option(
            "--max-latency-ms",
            min=0,
            help="Longest pass, by the table of the job's ofa-profile stage.",
            show_default=False,
        ),
    ] = None,
    latency_here: Annotated[
        bool,
        typer.Option("--latency-here", help="Time layers on this machine instead; needs no ofa-profile."),
    ] = False,
    measured: Annotated[
        bool, typer.Option("--measured", help="Search on measured accuracy, also where a predictor is.")
    ] = False,
    top: Annotated[int, typer.Option("--top", min=1, help="Best candidates to measure again.")] = 5,
    population: Annotated[int, typer.Option(min=4, help="Candidates in a generation.")] = 100,
    generations: Annotated[
        int | None, typer.Option(min=0, help="Generations; by default 30, or 4 with measured accuracy.")
    ] = None,
    export: Annotated[
        list[str] | None,
        typer.Option(
            "--export",
            metavar="FORMAT",
            help="torch.export, onnx or safetensors. May be repeated; by default safetensors.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the network; by default none is written."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the search.")] = 0,
    catalog: Annotated[
        str | None,
        typer.Option("--catalog", metavar="URL", help="Catalog of the job.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
) -> None:
    """Find and cut out the best network under new limits, from a job that trained a supernet.

    Searches on the job's accuracy predictor, or on measured accuracy where it has none; measures the
    best candidates again, re-calibrated; extracts the winner and proves it equal. No training.
    Limits that no network keeps are refused at once, with the cheapest network.

    For example:
    orchestrate specialize digits-once-for-all --max-macs 5e5 --export onnx --output out
    """
    from ...core.results import Results
    from .search import Limits
    from .serving import serve

    results = cast(Results, context.obj)
    deployment = serve(
        results.open(job, catalog),
        Limits(max_macs, max_parameters, max_memory, max_latency_ms),
        measured=measured,
        latency_here=latency_here,
        top=top,
        population=population,
        generations=generations,
        formats=tuple(export or ("safetensors",)),
        output=output,
        seed=seed,
        progress=_progress if sys.stderr.isatty() and not as_json else None,
    )
    if as_json:
        typer.echo(json.dumps(_data(deployment), indent=1))
    else:
        _print(deployment)


def _progress(generation: int, best: float) -> None:
    typer.echo(f"\rgeneration {generation}: best {best:.4f}", err=True, nl=False)


def _data(deployment: Deployment) -> dict[str, Any]:
    return {
        "candidate": dict(deployment.candidate),
        "digest": deployment.candidate.digest,
        "accuracy": deployment.accuracy,
        "costs": asdict(deployment.costs),
        "searched_on": deployment.searched_on,
        "scored": deployment.scored,
        "seconds": deployment.seconds,
        "whole_latency_ms": deployment.whole_latency_ms,
        "regret": deployment.regret,
        "remeasured": [
            {
                "candidate": dict(one.candidate),
                "fitness": one.fitness,
                "accuracy": one.accuracy,
                "macs": one.costs.macs,
            }
            for one in deployment.remeasured
        ],
        "proof": deployment.proof,
        "files": {kind: str(path) for kind, path in deployment.files.items()},
    }


def _print(deployment: Deployment) -> None:
    from rich.console import Console
    from rich.table import Table

    if sys.stderr.isatty():
        typer.echo(err=True)
    out = Console()
    shown = Table(box=None, pad_edge=False)
    for heading in ("", deployment.searched_on, "accuracy", "MACs", "parameters", "memory", "latency"):
        shown.add_column(heading, justify="left" if heading == "" else "right")
    for place, one in enumerate(deployment.remeasured, start=1):
        costs = one.costs
        shown.add_row(
            "chosen" if one.candidate == deployment.candidate else str(place),
            f"{one.fitness:.4f}",
            f"{one.accuracy:.4f}",
            f"{costs.macs:,.0f}",
            f"{costs.parameters:,.0f}",
            f"{costs.memory:,.0f} B",
            "-" if costs.latency_ms is None else f"{costs.latency_ms:.3f} ms",
        )
    out.print(shown)
    out.print(
        f"{deployment.scored:,} candidates searched on {deployment.searched_on} accuracy, "
        f"{len(deployment.remeasured)} measured again (validation, re-calibrated); "
        f"{deployment.seconds:.1f} s in all.",
        soft_wrap=True,
    )
    out.print(f"Lost by following the search's own order: {deployment.regret:.4f} of accuracy.")
    out.print(
        f"Extracted network and supernet differ by {deployment.proof['output_difference']:g} in their "
        f"outputs, {deployment.proof['gradient_difference']:g} in their gradients.",
        soft_wrap=True,
    )
    if deployment.whole_latency_ms is not None:
        out.print(f"The whole network takes {deployment.whole_latency_ms:.3f} ms here, batch 1, one thread.")
    for kind, path in deployment.files.items():
        off = deployment.proof["exports"].get(kind)
        out.print(f"{path}" + ("" if off is None else f"  (off by {off:.1e})"), soft_wrap=True)
