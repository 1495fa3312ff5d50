"""`orchestrate functional-hash`: look into what the fingerprint makes of a space."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ...core.job import Job, Stage
    from .fingerprint import FunctionalHash
    from .study import Study

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Look into the functional hash: how many candidates share a key, and why two do or don't.",
)

JobFile = Annotated[
    Path, typer.Argument(metavar="JOB.yaml", help="The job file.", exists=True, dir_okay=False)
]
StageName = Annotated[
    str | None,
    typer.Option("--stage", help="Stage with the space; by default the first that recalls, else searches."),
]


@app.command()
def study(
    file: JobFile,
    stage: StageName = None,
    candidates: Annotated[int, typer.Option("--candidates", "-n", min=2, help="Random draws.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.html", help="Write a plot of candidates a key.", dir_okay=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
) -> None:
    """Probe random candidates of a job's space, and sweep the quantum.

    Shows how many candidates share a key on each grid, how uncertain their outputs are, which quanta
    give the same keys, and how many candidates are degenerate. A quantum is sound where the count stands
    still, well above the noise.

    Example: orchestrate functional-hash study job.yaml -n 500 --plot study.html
    """
    from rich.console import Console
    from rich.progress import Progress

    from .study import plot as draw
    from .study import study as probe

    job, chosen, hashing = _stage(file, stage)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("probing", total=candidates)
        found = probe(hashing, chosen.space, job.task, candidates, seed, lambda: progress.advance(bar))
    if plot is not None:
        figure: Any = draw(found, chosen.space.name)
        figure.write_html(plot, include_plotlyjs=True)
    if as_json:
        typer.echo(json.dumps(found.data()))
        return
    _show(found, chosen.space.name)
    if plot is not None:
        typer.echo(f"\nPlot: {plot}")


@app.command()
def explain(
    file: JobFile,
    first: Annotated[str, typer.Argument(metavar="A", help="A candidate: its choices as JSON, or @FILE.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    stage: StageName = None,
) -> None:
    """Say at which tier two candidates are equal, and at which output they differ by how much.

    Example: orchestrate functional-hash explain job.yaml '{"edge_0_1": "none", …}' @other.json
    """
    job, chosen, hashing = _stage(file, stage)
    one, two = (_candidate(text, chosen) for text in (first, second))
    for line in hashing.explain(one, two, chosen.space, job.task):
        typer.echo(line)


def _stage(file: Path, name: str | None) -> tuple[Job, Stage, FunctionalHash]:
    from ...core.errors import SpecError, near_misses
    from ...core.registry import Registry
    from ...core.resolver import load
    from .fingerprint import FunctionalHash

    job = load(file, Registry.discover())
    names = [stage.spec.name for stage in job.stages]
    if name is not None and name not in names:
        raise SpecError(f"{file} has no stage {name!r}. {near_misses(name, names)}")
    hashes = [stage for stage in job.stages if isinstance(stage.fingerprint, FunctionalHash)]
    searches = [stage for stage in job.stages if stage.sampler is not None]
    chosen = job.stage(name) if name is not None else next(iter([*hashes, *searches, *job.stages]))
    found = chosen.fingerprint
    return job, chosen, found if isinstance(found, FunctionalHash) else FunctionalHash()


def _candidate(text: str, stage: Stage) -> Any:
    from ...core.errors import SpecError
    from ...core.space import replay

    try:
        data = json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)
    except (OSError, ValueError) as error:
        raise SpecError(f"{text!r} is no candidate: {error}. Give its choices as a JSON object") from None
    if not isinstance(data, dict):
        raise SpecError(f"{text!r} is no candidate: give its choices as a JSON object")
    return replay(stage.space, data)  # pyright: ignore[reportUnknownArgumentType]


def _show(found: Study, space: str) -> None:
    from rich.console import Console
    from rich.table import Table

    typer.echo(
        f"{found.candidates:,} different candidates of {space}; {found.probed:,} with outputs to compare"
    )
    if found.structural is not None:
        typer.echo(f"{found.structural:,} canonical forms")
    for token, count in found.tokens.items():
        typer.echo(f"{count:,} are {token}")
    table = Table("quantum", "keys", "candidates a key", "")
    for quantum, count in found.keys.items():
        near = abs(quantum / found.quantum - 1) < 1e-9 if found.quantum else False
        mark = "in use" if near else "below the noise" if quantum < found.smallest else ""
        table.add_row(f"{quantum:g}", f"{count:,}", f"{found.probed / max(1, count):.2f}", mark)
    Console().print(table)
    low, high = found.plateau
    typer.echo(
        f"The outputs are uncertain by {found.noise:.1e}, so a quantum is at least {found.smallest:.1e}. "
        f"From {low:g} to {high:g} the keys are as many. A probe takes {1000 * found.seconds:.1f} ms."
    )
