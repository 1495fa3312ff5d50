"""What a job may expect of coding, told from the reply times of earlier runs before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...core import Forecast
from ...core.errors import ArtifactError
from ...core.parallel import Expected
from .injection import Injected
from .records import Journal
from .replay import select
from .selection import Plan, Report, compare
from .selection.choose import replay
from .simulation import Costs
from .stragglers.profile import Profile

ROUNDS = 80
"""Rounds that are looked at, the last ones."""


def measured(earlier: Sequence[Path], workers: int, most_delay: int) -> tuple[Profile, Costs, str] | None:
    """Reply times and costs of the newest journal of so many workers with enough rounds."""
    for path in earlier:
        try:
            journal = Journal.read(path)
        except ArtifactError:
            continue
        selector = select(journal, most_delay, window=ROUNDS)
        if not selector.enough or selector.n != workers:
            continue
        decoding = [one.seconds for record in journal.rounds[-ROUNDS:] for one in record.decoded]
        costs = Costs(decode=float(np.median(decoding)) if decoding else 0.0)
        return selector.profile(), costs, f"{selector.rounds} rounds of an earlier run ({path})"
    return None


def made_up(injected: Injected, workers: int, slope: float) -> tuple[Profile, Costs, str]:
    """The delays that a job injects, without the time that its networks take."""
    load = 1 / workers
    seconds = [
        [injected(number, worker, load) for worker in range(workers)] for number in range(1, ROUNDS + 1)
    ]
    times = np.array(seconds)
    return Profile(times, np.full(times.shape, load), slope), Costs(), "the injected delays alone"


def forecast(known: tuple[Profile, Costs, str], models: int, asked: Plan | None) -> Forecast:
    """Compare all schemes on what is known, and say what the one that was asked for is worth.

    `asked` is None where the scheme is chosen during the run.
    """
    profile, costs, source = known
    report = compare(profile, models - 1, costs=costs)
    ways = {str(one.plan): one.seconds_per_job for one in report.best}
    warning = ""
    if asked is not None:
        seconds = replay(asked, profile, report.jobs, costs)[0].seconds_per_job
        ways[f"{asked}, as asked"] = seconds
        warning = _warning(report, asked, seconds)
    plain = report.uncoded.seconds_per_job
    ranked = sorted(ways.items(), key=lambda way: way[1])
    return Forecast(
        source,
        tuple(Expected(name, seconds, 1 - seconds / plain) for name, seconds in ranked),
        str(report.choice),
        report.gain,
        report.interval,
        report.reason,
        warning,
    )


def _warning(report: Report, asked: Plan, seconds: float) -> str:
    if asked.scheme == "uncoded":
        return ""
    if not report.codes:
        return (
            f"{asked}, which the job asks for, is not expected to pay. `scheme: auto` measures first and "
            "doesn't code where that doesn't pay; `scheme: uncoded` never does"
        )
    if seconds > report.uncoded.seconds_per_job:
        better = f"{report.choice} is not"
        return f"{asked}, which the job asks for, is expected to be slower than not coding; {better}"
    return ""
