"""`orchestrate stragglers simulate`: replays reply times under every scheme."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

if TYPE_CHECKING:
    from ..selection import Predicted, Report
    from ..stragglers.profile import Profile

EXAMPLES = """Examples:

\b
    orchestrate stragglers simulate profile.csv
    orchestrate stragglers simulate profile.csv --models 1 --decode 0.004 --plot schemes.png
    orchestrate stragglers simulate --gilbert-elliott 0.02 0.9 --workers 256 --slope 2.2
    orchestrate stragglers simulate profile.csv --cost 1 --cost 1 --cost 4
"""

BAR = 24


def simulate(
    profile: Annotated[
        Path | None,
        typer.Argument(
            metavar="PROFILE.csv",
            help="Reply times: columns round, worker, load, seconds. `stragglers replay RUN --profile FILE` "
            "writes a run's.",
            show_default=False,
        ),
    ] = None,
    gilbert_elliott: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--gilbert-elliott",
            metavar="P_SLOW P_NORMAL",
            help="Make the times up: each round a normal worker becomes slow with probability P_SLOW, a slow "
            "one normal with P_NORMAL.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=2, help="Workers, of times made up.")] = 256,
    rounds: Annotated[int, typer.Option(min=16, help="Rounds, of times made up.")] = 160,
    base: Annotated[float, typer.Option(min=0, help="Seconds of a normal reply, of times made up.")] = 0.7,
    factor: Annotated[
        tuple[float, float],
        typer.Option(metavar="LOW HIGH", help="How many times longer slow replies take, of times made up."),
    ] = (2.2, 6.0),
    slope: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Time that computing a whole job's gradient takes one worker. By default fitted to the "
            "profile, or 10 for times made up.",
            show_default=False,
        ),
    ] = None,
    models: Annotated[
        int,
        typer.Option(
            min=1, help="Models that train interleaved: a scheme may be late by one round less than that."
        ),
    ] = 4,
    cost: Annotated[
        list[float] | None,
        typer.Option(
            metavar="FACTOR",
            help="What a sample of one model takes, relative to the others', where they are of different "
            "sizes. Given once a model, instead of --models.",
            show_default=False,
        ),
    ] = None,
    scheme: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only this scheme: backup, gc, gc-frc, gc-partial, sr-sgc or m-sgc. May be repeated.",
            show_default=False,
        ),
    ] = None,
    decode: Annotated[float, typer.Option(min=0, help="Seconds the master takes to decode a job.")] = 0.0,
    vector: Annotated[
        float, typer.Option(min=0, help="Seconds the master takes for each vector that comes in.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of times made up.")] = 0,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="CSV", help="Write the times made up.", show_default=False),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE", help="Draw the comparison: PNG, SVG or PDF.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
) -> None:
    """Show which scheme would help against stragglers, and how much.

    Replays reply times, measured or made up, under each scheme with its best parameters. The gain that
    is predicted for the best one comes with an interval, from parameters picked on one half of the
    rounds and measured on the other.
    """
    from ....core.errors import SpecError
    from ..selection import compare
    from ..simulation import Costs

    names = _schemes(scheme)
    times = _weighed(_times(profile, gilbert_elliott, workers, rounds, base, factor, slope, seed), cost)
    models = len(cost) if cost else models
    if save:
        times.write(save)
    if plot and plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise SpecError(f"--plot {plot}: give a file that ends in .png, .svg or .pdf")
    with _Progress() as progress:
        try:
            report = compare(times, models - 1, names, Costs(decode, vector), progress=progress)
        except ValueError as error:
            raise SpecError(str(error)) from error
    if plot:
        from .drawing import draw

        draw(report, times, plot)
    if as_json:
        sys.stdout.write(json.dumps(_data(report, times), indent=2) + "\n")
    else:
        _show(report, times, plot)


def _schemes(chosen: list[str] | None) -> tuple[str, ...]:
    from ....core.errors import SpecError, near_misses
    from ..selection import CODED, SCHEMES

    known = [name for name in SCHEMES if name != "uncoded"]
    for name in chosen or ():
        if name not in known:
            raise SpecError(f"--scheme {name}: no such scheme. {near_misses(name, known)}")
    return tuple(dict.fromkeys(chosen or ("backup", *CODED)))


def _times(
    path: Path | None,
    chain: tuple[float, float] | None,
    workers: int,
    rounds: int,
    base: float,
    factor: tuple[float, float],
    slope: float | None,
    seed: int,
) -> Profile:
    import numpy as np

    from ....core.errors import DataError, SpecError
    from ..stragglers.generators import GilbertElliott, Service
    from ..stragglers.profile import read

    if (path is None) == (chain is None):
        raise SpecError("give either a PROFILE.csv or --gilbert-elliott P_SLOW P_NORMAL")
    if path is not None:
        try:
            return read(path, slope)
        except DataError as error:
            raise SpecError(str(error)) from error
    assert chain is not None
    rng = np.random.default_rng(seed)
    try:
        slow = GilbertElliott(*chain).pattern(rounds, workers, rng)
    except ValueError as error:
        raise SpecError(f"--gilbert-elliott: {error}") from error
    service = Service(base=base, factor=factor, slope=10.0 if slope is None else slope)
    return service.profile(slow, rng, f"Gilbert-Elliott {chain[0]:g}, {chain[1]:g}, seed {seed}")


def _weighed(times: Profile, costs: list[float] | None) -> Profile:
    from ....core.errors import SpecError

    if not costs:
        return times
    if min(costs) <= 0:
        raise SpecError(f"--cost {min(costs):g}: a factor is above 0")
    mean = sum(costs) / len(costs)
    return replace(times, costs=tuple(cost / mean for cost in costs))


class _Progress:
    """A bar on stderr while the search goes on."""

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self._bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("replaying", total=None)
        self._bar.start()
        return self

    def __call__(self, done: int, of: int) -> None:
        self._bar.update(self._task, completed=done, total=of)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _data(report: Report, times: Profile) -> dict[str, Any]:
    def one(found: Predicted) -> dict[str, Any]:
        return {
            **found.plan.describe(),
            "seconds_per_job": found.seconds_per_job,
            "saves": 1 - found.seconds_per_job / report.uncoded.seconds_per_job,
            "load": found.load,
            "delay": found.delay,
            "stragglers": found.stragglers,
            "bubbles": found.bubbles,
        }

    return {
        "profile": {
            "rounds": times.rounds,
            "workers": times.n,
            "slope": times.slope,
            "costs": list(times.costs),
            "source": times.source,
        },
        "schemes": [one(found) for found in report.best],
        "choice": report.choice.describe(),
        "gain": report.gain,
        "interval95": list(report.interval),
        "reason": report.reason,
    }


def _show(report: Report, times: Profile, plot: Path | None) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    out = Console(highlight=False, markup=False, emoji=False)
    if not out.is_terminal:
        out.width = max(out.width, 160)
    out.print(
        f"{times.rounds} rounds of {times.n} workers ({times.source}); computing a whole job takes one "
        f"worker {times.slope:.3g} s\n"
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("scheme", "parameters"):
        table.add_column(name, header_style="bold")
    for name in ("window", "load", "delay", "replies\ndone without", "bubbles", "time\na job", "saves"):
        table.add_column(name, header_style="bold", justify="right")
    table.add_column("")
    longest = max(found.seconds_per_job for found in report.best)
    for found in report.best:
        plan = found.plan
        table.add_row(
            f"{plan.scheme} (inexact)" if plan.scheme == "backup" else plan.scheme,
            ", ".join(f"{name} {value}" for name, value in plan.parameters.items()),
            "" if plan.scheme == "uncoded" else f"{1 + plan.wait.mu:.3g} x",
            f"{found.load:.2%}",
            f"{found.delay}",
            f"{found.stragglers:.1%}",
            f"{found.bubbles:.1%}",
            f"{found.seconds_per_job:.3g} s",
            f"{1 - found.seconds_per_job / report.uncoded.seconds_per_job:.0%}",
            "█" * max(1, round(BAR * found.seconds_per_job / longest)),
            style="bold" if plan == report.choice else None,
        )
    out.print(table)
    out.print(f"{report.reason}")
    out.print(
        "\nwindow: a round stays open at least so many times as long as its fastest reply takes, and then "
        "until every job can still decode in time.\ndelay: rounds that a gradient may be late, while other "
        "models train.\nbubbles: part of the time that passes in rounds without a new job, at the end.\n"
        "inexact: late "
        "gradients are dropped; the time is for as many samples as a job has."
    )
    if plot:
        out.print(f"\nDrawn in {plot}.")
