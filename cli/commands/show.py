"""`orchestrate show`: what came out of a job, as far as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from .. import options as opt
from ..console import console, print_json, styled, table
from ..words import between, number, seconds, when

if TYPE_CHECKING:
    from rich.console import Console

    from ...storage.catalog import Catalog
    from ...storage.models import JobRow, StageRow
    from ...storage.report.facts import JobFacts

EXAMPLES = """
    orchestrate show
    orchestrate show quickstart --pareto
    orchestrate show quickstart --trials --stage search
    orchestrate show quickstart --trial 17
    orchestrate show quickstart --trials --json | jq '.[] | select(.state == "failed") | .reason'
"""

Stage = Annotated[
    str | None,
    typer.Option(
        "--stage",
        metavar="STAGE",
        help="A stage by name; by default the last that searches.",
        show_default=False,
    ),
]


def show(
    job: opt.AnyJob = None,
    pareto: Annotated[bool, typer.Option("--pareto", help="The whole Pareto front.")] = False,
    trials: Annotated[bool, typer.Option("--trials", help="Every trial of the job, or of --stage.")] = False,
    trial: Annotated[
        int | None,
        typer.Option(
            "--trial",
            min=0,
            metavar="N",
            help="One trial, with its attempts and reports.",
            show_default=False,
        ),
    ] = None,
    stage: Stage = None,
    catalog: opt.CatalogUrl = None,
    as_json: opt.Json = False,
) -> None:
    """Show a job's results: counts, the best, and where the time went.

    `--pareto`, `--trials` and `--trial` show one part in full.
    """
    from ...core.errors import SpecError
    from ..jobs import find, opened
    from ..trials import show_trial, show_trials

    if sum((pareto, trials, trial is not None)) > 1:
        raise SpecError("give one of --pareto, --trials and --trial")
    with opened(opt.settings(catalog=catalog)) as store:
        row = find(store, job)
        if trial is not None:
            show_trial(store, row, _stage(store, row, stage), trial, as_json=as_json)
        elif trials:
            show_trials(store, row, _stage(store, row, stage) if stage else None, as_json=as_json)
        elif pareto:
            _show_front(store, row, as_json)
        else:
            _show_job(store, row, as_json)


def _stage(store: Catalog, job: JobRow, name: str | None) -> StageRow:
    from ...core.errors import SpecError, near_misses
    from ..jobs import result

    stages = store.stages(job.id)
    if name is None:
        return result(store, job).stage or stages[0]
    found = next((stage for stage in stages if stage.name == name), None)
    if found is None:
        raise SpecError(
            f"job {job.id} has no stage {name!r}. {near_misses(name, [stage.name for stage in stages])}"
        )
    return found


def _show_front(store: Catalog, job: JobRow, as_json: bool) -> None:
    from ..jobs import result
    from ..outcome import print_result
    from ..trials import trial_data

    found = result(store, job)
    if as_json:
        name = found.stage.name if found.stage else ""
        print_json([trial_data(row, name) for row in found.front])
    else:
        print_result(console(), found, everything=True)


def _show_job(store: Catalog, job: JobRow, as_json: bool) -> None:
    from ...storage.report.facts import read
    from ..jobs import cost, result
    from ..outcome import print_result
    from ..trials import trial_data

    found, facts = result(store, job), read(store, job.id)
    stages = store.stages(job.id)
    times = {stage.name: cost(stage.trials) for stage in facts.stages}
    if as_json:
        print_json(
            {
                "id": job.id,
                "name": job.name,
                "state": job.state,
                "reason": job.reason,
                "seed": job.seed,
                "created_at": job.created_at,
                "started_at": job.started_at,
                "ended_at": job.ended_at,
                "trials": dict(found.counts),
                "saved_seconds": found.saved,
                "pareto_stage": found.stage.name if found.stage else None,
                "pareto": [trial_data(row, found.stage.name if found.stage else "") for row in found.front],
                "best": {stage.name: stage.leading(facts.goals) for stage in facts.stages},
                "seconds": times,
                "provenance": job.provenance,
            }
        )
        return
    out = console()
    out.print("Job ", job.id, " ", styled(job.state), sep="")
    if job.reason:
        out.print(job.reason)
    took = seconds(between(job.started_at, job.ended_at)) if job.started_at else "-"
    origin = f"{job.provenance.get('user', '')}@{job.provenance.get('host', '')}"
    out.print(f"Submitted {when(job.created_at)} by {origin}, seed {job.seed}, took {took}")
    print_result(out, found)
    if len(facts.stages) > 1:
        _print_best(out, facts)
    counts = [store.counts(stage.id) for stage in stages]
    _print_cost(stages, times, counts, [store.lineage_seconds(stage.id) for stage in stages])
    if found.counts.get("recalled"):
        out.print(f"Recall  orchestrate recall stats {job.id}")
    out.print(f"Report  orchestrate report {job.id}\nMLflow  orchestrate ui {job.id}")


def _print_best(out: Console, facts: JobFacts) -> None:
    """What each stage reached."""
    goals = [goal.name for goal in facts.goals]
    shown = table("stage", "program", *goals, right=goals)
    for stage in facts.stages:
        best = stage.leading(facts.goals)
        shown.add_row(stage.name, stage.spec.program.name, *(number(best.get(goal, "-")) for goal in goals))
    out.print("\nThe best trial of each stage:")
    out.print(shown)


def _print_cost(
    stages: Sequence[StageRow],
    times: dict[str, dict[str, float]],
    counts: Sequence[dict[str, int]],
    lineage: Sequence[float],
) -> None:
    """Where the time went: the mean of each part of a trial, and Orchestrate's own share."""
    from ..jobs import OVERHEADS, OWN, over

    parts = (*OVERHEADS, "lineage")
    shown = table("stage", "trials", *parts, "own share", right=("trials", *parts, "own share"))
    for stage, count, aside in zip(stages, counts, lineage, strict=True):
        trials, spent = over(count), times[stage.name]
        total = sum(spent.values())
        shown.add_row(
            stage.name,
            f"{trials:,}",
            *(seconds(spent[part] / trials) if trials else "-" for part in OVERHEADS),
            seconds(aside / trials) if trials else "-",
            f"{sum(spent[part] for part in OWN) / total:.1%}" if total else "-",
        )
    out = console()
    out.print("\nMean time of a trial, and the share that is Orchestrate's own (all but run and measure;")
    out.print("lineage is written by another process meanwhile, and isn't counted):")
    out.print(shown)
