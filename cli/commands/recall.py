"""`orchestrate recall`: what was answered from earlier trials, why, and how to undo it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import options as opt
from ..console import console, print_json
from ..front import Command, Group
from ..words import plural

if TYPE_CHECKING:
    from ...storage.catalog import Catalog
    from ...storage.models import JobRow, StageRow, TrialRow

EXAMPLES = """
    orchestrate recall stats
    orchestrate recall why quickstart/search/17
    orchestrate recall explain quickstart/search/3 quickstart/search/17
    orchestrate recall invalidate --job quickstart-x3k7qa --reason "labels were shuffled"
    orchestrate recall import job.yaml --from quickstart
"""
STATS_EXAMPLES = """
    orchestrate recall stats
    orchestrate recall stats quickstart --json | jq '.[].by_tier'
"""
EXPLAIN_EXAMPLES = """
    orchestrate recall explain quickstart/search/3 quickstart/search/17
    orchestrate recall explain quickstart/3 quickstart/17 --json | jq '.difference'
"""
WHY_EXAMPLES = """
    orchestrate recall why quickstart/search/17
    orchestrate recall why quickstart/17
"""
INVALIDATE_EXAMPLES = """
    orchestrate recall invalidate --trial quickstart/search/3 --reason "the disk was full"
    orchestrate recall invalidate --data 3f9a --reason "labels were shuffled"
"""
IMPORT_EXAMPLES = """
    orchestrate recall import job.yaml --from quickstart
    orchestrate recall import job.yaml --stage search --from old-job --from-stage tune
"""

Trial = Annotated[
    str, typer.Argument(metavar="TRIAL", help="JOB/STAGE/NUMBER; without STAGE, the last that searches.")
]

app = typer.Typer(cls=Group, no_args_is_help=True, rich_markup_mode=None, epilog=EXAMPLES)


@app.callback()
def recall() -> None:
    """What was answered from earlier trials: how often, why, and how to undo it."""


@app.command(cls=Command, epilog=STATS_EXAMPLES)
def stats(job: opt.AnyJob = None, catalog: opt.CatalogUrl = None, as_json: opt.Json = False) -> None:
    """Show what recall did in a job: hits by tier, time saved and spent on hashing, classes, audits.

    Hits of tier `exact` are equal candidates, which need no functional hash; they are counted apart.
    """
    from ...storage.recall import statistics
    from ..jobs import find, goals_of, opened
    from ..recalled import print_statistics

    with opened(opt.settings(catalog=catalog)) as store:
        row = find(store, job)
        lead = next((goal.name for goal in goals_of(row) if goal.direction), None)
        stages = [stage for stage in store.stages(row.id) if stage.context]
        found = [statistics(store.engine, stage.id, lead) for stage in stages]
    if as_json:
        print_json([{**asdict(one), "hits": one.hits, "net_seconds": one.net_seconds} for one in found])
    elif not found:
        typer.echo(f"No stage of job {row.id} recalls: give one `recall: {{name: exact}}`, for example.")
    for one in found if not as_json else ():
        print_statistics(console(), one)


@app.command(cls=Command, epilog=EXPLAIN_EXAMPLES)
def explain(
    a: Annotated[str, typer.Argument(metavar="A", help="A trial: JOB/STAGE/NUMBER.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another trial, of any job.")],
    catalog: opt.CatalogUrl = None,
    as_json: opt.Json = False,
) -> None:
    """Say whether two trials' candidates share results, by which key, or in which output they differ.

    Both are fingerprinted anew, as A's stage does it.
    """
    from ...core.candidate import Candidate
    from ...core.errors import SpecError
    from ...core.registry import Registry
    from ...core.resolver import resolve
    from ...scheduler.compare import compare
    from ..jobs import opened
    from ..recalled import print_comparison

    with opened(opt.settings(catalog=catalog)) as store:
        job_row, stage_row, ours = _trial(store, a)
        _, _, theirs = _trial(store, b)
    job = resolve(job_row.spec, Registry.discover())
    stage = job.stage(stage_row.name)
    if stage.fingerprint is None:
        raise SpecError(f"stage {stage_row.name!r} of job {job_row.id} doesn't recall: it has no fingerprint")
    found = compare(stage, job, Candidate(ours.candidate), Candidate(theirs.candidate))
    if as_json:
        known = ours.class_id is not None and ours.class_id == theirs.class_id
        print_json({**asdict(found), "same_class": known})
    else:
        print_comparison(console(), found, a, b)


@app.command(cls=Command, epilog=WHY_EXAMPLES)
def why(trial: Trial, catalog: opt.CatalogUrl = None, as_json: opt.Json = False) -> None:
    """Say where a trial's score came from: the evaluations served, the key that matched, what it saved."""
    from ...storage.recall import trace
    from ..jobs import opened
    from ..recalled import print_trace

    with opened(opt.settings(catalog=catalog)) as store:
        _, _, row = _trial(store, trial)
        found = trace(store.engine, row.id)
    if as_json:
        print_json(asdict(found) if found else None)
    elif found is None:
        typer.echo(f"Trial {trial} is {row.state} without recall: {row.reason or 'it ran by itself'}")
    else:
        print_trace(console(), found, row)


@app.command(cls=Command, epilog=INVALIDATE_EXAMPLES)
def invalidate(
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept with what it marks.")],
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", metavar="ID", help="All of a namespace.", show_default=False),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DIGEST", help="All on data of this digest.", show_default=False),
    ] = None,
    code: Annotated[
        str | None,
        typer.Option("--code", metavar="DIGEST", help="All by code of this digest.", show_default=False),
    ] = None,
    class_: Annotated[
        str | None, typer.Option("--class", metavar="ID", help="All of a class.", show_default=False)
    ] = None,
    trial: Annotated[
        str | None, typer.Option("--trial", metavar="TRIAL", help="What a trial gave.", show_default=False)
    ] = None,
    job: Annotated[
        str | None, typer.Option("--job", metavar="JOB", help="What a job's trials gave.", show_default=False)
    ] = None,
    catalog: opt.CatalogUrl = None,
    as_json: opt.Json = False,
) -> None:
    """Serve certain results no more, and mark the trials that were served them.

    Nothing is deleted: a tombstone with the reason is kept, and `why` and MLflow show it. The digests and
    namespaces stand in `stats --json`; the beginning of one will do.
    """
    from ...core.errors import SpecError
    from ...storage.recall import invalidate as bury
    from ..jobs import opened

    wanted = {"namespace": namespace, "data": data, "code": code, "class": class_, "trial": trial, "job": job}
    given: list[tuple[Any, str]] = [(scope, text) for scope, text in wanted.items() if text is not None]
    if len(given) != 1:
        raise SpecError("give one of --namespace, --data, --code, --class, --trial and --job")
    [(scope, subject)] = given
    with opened(opt.settings(catalog=catalog)) as store:
        if scope == "trial":
            subject = str(_trial(store, subject)[2].id)
        elif scope == "job":
            subject = store.job(subject).id
        buried = bury(store.engine, scope, subject, reason)
        used = [_where(store, store.trial(ident)) for ident in buried.trials]
    if as_json:
        print_json({**asdict(buried), "trials": used})
        return
    classes = "1 class" if buried.classes == 1 else f"{buried.classes:,} classes"
    typer.echo(f"{plural(buried.evaluations, 'evaluation')} of {classes} will be served no more.")
    if used:
        typer.echo(f"Trials marked that had been served them, {len(used):,}: {', '.join(used[:10])}")
        typer.echo("`orchestrate lineage sync` marks their runs in MLflow.")


@app.command("import", cls=Command, epilog=IMPORT_EXAMPLES)
def import_(
    file: opt.JobFile,
    source: Annotated[
        str, typer.Option("--from", metavar="JOB", help="The job whose finished trials are brought in.")
    ],
    stage: Annotated[
        str | None,
        typer.Option(
            "--stage",
            metavar="STAGE",
            help="Stage of the file; by default its first that recalls.",
            show_default=False,
        ),
    ] = None,
    from_stage: Annotated[
        str | None,
        typer.Option(
            "--from-stage",
            metavar="STAGE",
            help="Stage of JOB; by default its last that searches.",
            show_default=False,
        ),
    ] = None,
    catalog: opt.CatalogUrl = None,
) -> None:
    """Make a job's finished trials known to the recall of a job file, though they ran without it.

    They are fingerprinted now. Both must agree in data, space, program, code and objectives. Doing it again
    adds nothing.
    """
    from rich.console import Console
    from rich.progress import Progress

    from ...core.errors import SpecError
    from ...core.registry import Registry
    from ...core.resolver import load, resolve
    from ...scheduler.compare import bring_in
    from ..jobs import opened

    registry = Registry.discover()
    job = load(Path(file), registry)
    target = next((one for one in job.stages if one.fingerprint and stage in (None, one.spec.name)), None)
    if target is None:
        raise SpecError(f"{file} has no stage {stage or ''!r} that recalls")
    with opened(opt.settings(catalog=catalog)) as store:
        row = store.job(source)
        earlier = resolve(row.spec, registry)
        wanted = _stage(store, row, from_stage)
        stages = (target, earlier, earlier.stage(wanted.name), wanted)
        with Progress(console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("hashing", total=store.counts(wanted.id).get("finished", 0))
            looked, added = bring_in(store, job, *stages, lambda done: progress.update(bar, completed=done))
    typer.echo(
        f"Looked at {plural(looked, 'finished trial')} of stage {wanted.name}, job {row.id}: "
        f"{added:,} are new to the recall of stage {target.spec.name}."
    )


def _trial(store: Catalog, reference: str) -> tuple[JobRow, StageRow, TrialRow]:
    from ...core.errors import SpecError

    job, *middle = reference.split("/")
    number = middle.pop() if middle else ""
    if not number.isdigit() or len(middle) > 1 or not job:
        raise SpecError(f"{reference!r} names no trial: write JOB/STAGE/NUMBER, like quickstart/search/17")
    row = store.job(job)
    stage = _stage(store, row, middle[0] if middle else None)
    found = next((one for one in store.trials(stage_id=stage.id) if one.number == int(number)), None)
    if found is None:
        raise SpecError(f"stage {stage.name!r} of job {row.id} has no trial {number}")
    return row, stage, found


def _stage(store: Catalog, job: JobRow, name: str | None) -> StageRow:
    from ...core.errors import SpecError, near_misses
    from ..jobs import result

    stages = store.stages(job.id)
    if name is None:
        return result(store, job).stage or stages[0]
    for one in stages:
        if one.name == name:
            return one
    raise SpecError(f"job {job.id} has no stage {name!r}. {near_misses(name, [one.name for one in stages])}")


def _where(store: Catalog, trial: TrialRow) -> str:
    job_id, stage = store.place(trial.stage_id)
    return f"{job_id}/{stage}/{trial.number}"
