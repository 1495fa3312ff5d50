"""`orchestrate stragglers replay`: a run's rounds once more, from its journal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from ..records import Journal

EXAMPLES = """Examples:

\b
    orchestrate stragglers replay gradient-coding-2f35qc
    orchestrate stragglers replay gradient-coding-2f35qc --trial 3 --plot rounds.png
    orchestrate stragglers replay rounds.jsonl --profile times.csv
    orchestrate stragglers simulate times.csv
"""

NAME = "rounds.jsonl"


def replay(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A job's id, or a trial's file rounds.jsonl.", show_default=False),
    ],
    trial: Annotated[int | None, typer.Option(min=0, help="The trial's number.", show_default=False)] = None,
    profile: Annotated[
        Path | None,
        typer.Option("--profile", metavar="CSV", help="Write the reply times.", show_default=False),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw the rounds: PNG, SVG or PDF.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
) -> None:
    """Drive the schemes of a run by its recorded masks again, and compare what they decode.

    Says how the run went, too: its stragglers, their bursts, and the chain that would make such up.
    """
    from ....core.errors import SpecError
    from ..picture import draw
    from ..records import Journal
    from ..replay import profile as times
    from ..replay import replay as replayed

    path = _find(run, trial)
    journal = Journal.read(path)
    steps = list(replayed(journal))
    differences = {step.record.number: step.difference for step in steps if step.difference}
    if profile:
        try:
            times(journal).write(profile)
        except ValueError as error:
            raise SpecError(f"{path}: {error}") from error
    if plot:
        draw(journal, plot)
    data = _data(journal, path, len(steps), differences)
    if as_json:
        sys.stdout.write(json.dumps(data, indent=2) + "\n")
    else:
        _show(data, journal)
    if differences:
        raise typer.Exit(1)


def _find(run: str, trial: int | None) -> Path:
    from ....core.errors import SpecError

    if Path(run).is_file():
        return Path(run)
    home = Path(os.environ.get("ORCHESTRATE_HOME", ".orchestrate"))
    root = Path(os.environ.get("ORCHESTRATE_ARTIFACTS", home / "artifacts")) / run
    number = "*" if trial is None else f"{trial:06d}"
    found = sorted(root.glob(f"*/{number}/artifacts/rounds/{NAME}"))
    if not found:  # a trial that still runs, or was killed: its last attempt
        found = sorted(root.glob(f"*/{number}/rounds-*/{NAME}"), key=_attempt, reverse=True)
    if not found:
        raise SpecError(
            f"no {NAME} under {root}: name a job that trains or trained with gradient-coding, with its "
            f"files on this machine (`orchestrate list`), or give the file {NAME} of a trial"
        )
    return found[0]


def _attempt(path: Path) -> int:
    return int(path.parent.name.rpartition("-")[2])


def _data(journal: Journal, path: Path, rounds: int, differences: dict[int, str]) -> dict[str, Any]:
    from ..stragglers.statistics import describe

    told = describe(journal.pattern)
    chain = told.chain
    return {
        "journal": str(path),
        "schemes": [{"from_round": use.base + 1, **use.scheme, "reason": use.reason} for use in journal.uses],
        "rounds": rounds,
        "identical": not differences,
        "differences": differences,
        "summary": journal.summary(),
        "bursts": told.bursts,
        "gilbert_elliott": {"p_slow": chain.p_slow, "p_normal": chain.p_normal} if chain else None,
    }


def _show(data: dict[str, Any], journal: Journal) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    same = "all as recorded" if data["identical"] else f"{len(data['differences'])} otherwise than recorded"
    console.print(f"{data['rounds']} rounds replayed, {same}   [dim]{data['journal']}[/]", soft_wrap=True)
    for number, difference in data["differences"].items():
        console.print(f"  round {number}: {difference}")
    table = Table(show_header=False, box=None)
    for use in journal.uses:
        shown = ", ".join(_pairs({key: value for key, value in use.scheme.items() if key != "scheme"}))
        table.add_row(f"from round {use.base + 1}", f"{use.scheme['scheme']} ({shown}): {use.reason}")
    for name, value in data["summary"].items():
        table.add_row(name.replace("_", " "), f"{value:.4g}")
    bursts = ", ".join(f"{count} of {length}" for length, count in data["bursts"].items())
    table.add_row("bursts, in rounds", bursts or "none")
    if chain := data["gilbert_elliott"]:
        table.add_row("made up by", f"--gilbert-elliott {chain['p_slow']:.3g} {chain['p_normal']:.3g}")
    console.print(table)


def _pairs(data: Mapping[str, Any]) -> Iterator[str]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield f"{key} {' '.join(_pairs(cast(dict[str, Any], value)))}"
        else:
            yield f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
