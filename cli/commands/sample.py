"""`orchestrate sample`: new candidates for a stated preference, from what a job's sampler has learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from .. import options as opt
from ..console import console, print_json, table
from ..words import choices, differing, number, pairs, plural

if TYPE_CHECKING:
    from ...core.sampler import Suggestion

EXAMPLES = """
    orchestrate sample nas --prefer accuracy=0.8,latency=0.2
    orchestrate sample nas --prefer latency=1 -n 3
    orchestrate sample nas --prefer accuracy=2,latency=1,size=1 --json | jq '.candidates[].candidate'
"""


def sample(
    job: opt.JobRef,
    prefer: Annotated[
        str,
        typer.Option(
            "--prefer",
            metavar="NAME=WEIGHT,…",
            help="How much each objective counts; scaled to sum 1. One that isn't named counts nothing.",
        ),
    ],
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, metavar="N", help="How many candidates.")
    ] = 10,
    stage: Annotated[
        str | None,
        typer.Option(
            "--stage",
            metavar="STAGE",
            help="A stage by name; by default the last with a sampler.",
            show_default=False,
        ),
    ] = None,
    without: opt.Without = None,
    catalog: opt.CatalogUrl = None,
    as_json: opt.Json = False,
) -> None:
    """Ask a job's sampler for new candidates that serve a preference. No trial is run.

    The sampler is restored from the job's log, as `resume` does, and takes what it has trained from the
    job's artifacts, where the stage is over. The job is left as it is. Works with samplers that learn
    preferences or a model of the objectives.
    """
    from ...core.preference import parse_preference
    from ...core.registry import Registry, import_from_here
    from ...scheduler.history import sample as ask
    from ..jobs import opened

    import_from_here()
    settings = opt.settings(catalog=catalog, without=without)
    with opened(settings) as store:
        row = store.job(job)
        registry = Registry.discover(settings.without)
        preference, found = ask(store, row, parse_preference(prefer), count, registry, stage)
    if as_json:
        print_json(
            {
                "id": row.id,
                "preference": preference,
                "candidates": [
                    {
                        "candidate": dict(one.candidate),
                        "predicted": dict(one.predicted),
                        "deviation": dict(one.deviation),
                        "log_probability": one.log_probability,
                    }
                    for one in found
                ],
            }
        )
        return
    _print(row.id, preference, found)


def _print(job: str, preference: Mapping[str, float], found: Sequence[Suggestion]) -> None:
    out = console()
    out.print(f"{plural(len(found), 'candidate')} of job {job} for {pairs(preference)}")
    goals = list(dict.fromkeys(name for one in found for name in one.predicted))
    likely = any(one.log_probability is not None for one in found)
    heading = [*goals, *(["log p"] if likely else [])]
    names = differing([one.candidate for one in found])
    shown = table(*heading, "choices", right=heading)
    for one in found:
        cells = [_predicted(one, goal) for goal in goals]
        if likely:
            cells.append("-" if one.log_probability is None else number(one.log_probability))
        shown.add_row(*cells, choices(one.candidate, names))
    out.print(shown)


def _predicted(one: Suggestion, goal: str) -> str:
    """`0.94 ± 0.01`, the model's word; an exact objective has no deviation."""
    if goal not in one.predicted:
        return "-"
    text = number(one.predicted[goal])
    return f"{text} ± {number(one.deviation[goal])}" if one.deviation.get(goal) else text
