"""Trials in full: every one of a job as a table, or one with all that is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from ..core.errors import SpecError
from ..storage.catalog import Catalog
from ..storage.models import ArtifactRow, AttemptRow, JobRow, ReportRow, StageRow, TrialRow
from .console import console, print_json, styled, table
from .jobs import goals_of
from .words import between, choices, number, pairs, seconds


def trial_data(row: TrialRow, stage: str) -> dict[str, Any]:
    """A trial as JSON data."""
    return {
        "stage": stage,
        "number": row.number,
        "state": row.state,
        "reason": row.reason,
        "candidate": row.candidate,
        "values": row.values,
        "metrics": row.metrics,
        "test": row.test,
        "confirmed": row.confirmed,
        "attempts": row.attempts,
        "recalled_from": row.recalled_from,
        "seed": row.seed,
        "timings": row.timings,
        "id": row.id,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
    }


def show_trials(store: Catalog, job: JobRow, stage: StageRow | None, *, as_json: bool) -> None:
    """Print every trial of the job or of one stage, a line each."""
    names = {row.id: row.name for row in store.stages(job.id)}
    rows = store.trials(job.id, stage_id=stage.id if stage else None)
    if as_json:
        print_json([trial_data(row, names[row.stage_id]) for row in rows])
        return
    goals = [goal.name for goal in goals_of(job)]
    shown = table("stage", "trial", "state", *goals, "time", "choices", right=("trial", *goals, "time"))
    for row in rows:
        ran = row.timings.get("run")
        shown.add_row(
            names[row.stage_id],
            f"#{row.number}",
            styled(row.state),
            *(number(row.values.get(name, "-")) for name in goals),
            "-" if ran is None else seconds(ran),
            choices(row.candidate),
        )
    console().print(shown)


def show_trial(store: Catalog, job: JobRow, stage: StageRow, wanted: int, *, as_json: bool) -> None:
    """Print one trial with its attempts, reports and files.

    Raises:
        SpecError: the stage has no such trial.
    """
    row = next((row for row in store.trials(stage_id=stage.id) if row.number == wanted), None)
    if row is None:
        count = sum(store.counts(stage.id).values())
        raise SpecError(f"stage {stage.name!r} of job {job.id} has no trial {wanted}: it has {count}, from 0")
    attempts, reports, files = store.attempts(row.id), store.reports(row.id), store.artifacts_of(row.id)
    if as_json:
        print_json(
            {
                **trial_data(row, stage.name),
                "attempt_log": [_attempt_data(attempt) for attempt in attempts],
                "reports": [{"step": report.step, "metrics": report.metrics} for report in reports],
                "artifacts": [_file_data(file) for file in files],
            }
        )
        return
    out = console()
    out.print(f"Trial #{row.number} of stage {stage.name}, job {job.id}: ", styled(row.state), sep="")
    _facts(out, store, row)
    for attempt in attempts:
        _attempt(out, attempt)
    _steps(out, reports)
    for file in files:
        out.print(f"File {file.kind}: {file.uri} ({number(file.size)} bytes)", soft_wrap=True)
    if any(attempt.error for attempt in attempts):
        out.print(f"\nTracebacks: orchestrate logs {job.id} --trial {row.number}")


def _attempt_data(attempt: AttemptRow) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "state": attempt.state,
        "node": attempt.node,
        "error": attempt.error,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "late": attempt.late,
    }


def _file_data(file: ArtifactRow) -> dict[str, Any]:
    return {"kind": file.kind, "uri": file.uri, "sha256": file.sha256, "size": file.size}


def _facts(out: Console, store: Catalog, row: TrialRow) -> None:
    if row.reason:
        out.print(row.reason)
    for label, text in (
        ("choices", choices(row.candidate)),
        ("values", pairs(row.values)),
        ("metrics", pairs(row.metrics)),
        ("test", pairs(row.test or {})),
        ("again", pairs(row.confirmed or {})),
        ("times", ", ".join(f"{part} {seconds(spent)}" for part, spent in row.timings.items())),
        ("recalled", "" if row.recalled_from is None else f"from {_where(store, row.recalled_from)}"),
        ("seed", str(row.seed)),
    ):
        if text:
            out.print(f"  {label:<8} {text}")


def _where(store: Catalog, trial_id: int) -> str:
    source = store.trial(trial_id)
    for job in store.jobs():
        for stage in store.stages(job.id):
            if stage.id == source.stage_id:
                return f"trial #{source.number} of stage {stage.name}, job {job.id}"
    return f"trial {trial_id}"


def _attempt(out: Console, attempt: AttemptRow) -> None:
    took = seconds(between(attempt.started_at, attempt.ended_at))
    where = f" on {attempt.node}" if attempt.node else ""
    out.print(f"\nAttempt {attempt.number}: ", styled(attempt.state), f" after {took}{where}", sep="")
    if attempt.late:
        out.print(f"Late: {attempt.late['state']}, {pairs(attempt.late['metrics'])}; it counts no more")
    if attempt.error:
        out.print(f"{attempt.error['type']}: {attempt.error['message']} ({attempt.error['frame']})")


def _steps(out: Console, reports: Sequence[ReportRow]) -> None:
    if not reports:
        return
    names = list(dict.fromkeys(name for report in reports for name in report.metrics))
    shown = table("step", *names, right=("step", *names))
    for report in reports:
        shown.add_row(str(report.step), *(number(report.metrics.get(name, "-")) for name in names))
    out.print()
    out.print(shown)
