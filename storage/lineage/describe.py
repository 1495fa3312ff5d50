"""What MLflow is told of a job, a stage and a trial: params, metrics, tags, tables. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from ...core.candidate import canonical_json
from ..models import (
    TERMINAL_TRIAL_STATES,
    ArtifactRow,
    HitRow,
    JobRow,
    ReportRow,
    StageRow,
    TrialRow,
)
from ..recall import Served, Statistics
from ..report.facts import Progress, StageFacts, diagnosed
from .client import NOTE, DatasetRef, Point, Status

COLUMNS = 40  # choices that get columns of their own in the table of trials

STATUS: Mapping[str, Status] = {
    "created": "SCHEDULED",
    "queued": "SCHEDULED",
    "running": "RUNNING",
    "finished": "FINISHED",
    "recalled": "FINISHED",
    "pruned": "FINISHED",  # a decision, not a failure; the tag `orchestrate.state` tells
    "infeasible": "KILLED",
    "failed": "FAILED",
    "lost": "FAILED",
    "cancelled": "KILLED",
    "interrupted": "KILLED",
    "paused": "KILLED",
}


def ms(at: datetime) -> int:
    """Milliseconds since 1970."""
    return int(at.timestamp() * 1000)


# Names that MLflow shows and by which runs are found again ------------------------------------------


def entity_of(job_id: str, stage: str | None = None, number: int | None = None) -> str:
    """The tag by which a run is found: job, job/stage, job/stage/number."""
    return "/".join(str(part) for part in (job_id, stage, number) if part is not None)


@dataclass(frozen=True)
class Origin:
    """A trial that others were recalled from: its name, and its run where it has one."""

    entity: str
    run_id: str | None
    link: str | None
    """To its run, inside MLflow's UI."""

    @property
    def shown(self) -> str:
        """The name as Markdown."""
        return f"[{self.entity}]({self.link})" if self.link else self.entity


# Job ------------------------------------------------------------------------------------------------


def job_params(job: JobRow) -> dict[str, object]:
    """The job file, flat: `stages.search.trials`, `task.name`."""
    return flat(job.spec)


def job_tags(job: JobRow) -> dict[str, str]:
    """Who, where, by what: plugins, versions, code, seed."""
    known = job.provenance
    tags = {
        "orchestrate.state": job.state,
        "orchestrate.reason": job.reason,
        "orchestrate.seed": str(job.seed),
        **{f"orchestrate.package.{name}": version for name, version in known.get("packages", {}).items()},
        **{f"orchestrate.{key}": str(known.get(key, "")) for key in ("python", "platform", "host")},
        "orchestrate.command": " ".join(map(str, known.get("command", []))),
        **{f"orchestrate.plugin.{name}": origin for name, origin in known.get("plugins", {}).items()},
        **{str(name): str(value) for name, value in job.spec.get("lineage", {}).get("tags", {}).items()},
    }
    if task := known.get("task"):
        tags["orchestrate.data"] = f"{task['name']} {task['digest']}"
    return {name: value for name, value in tags.items() if value}


def origin_tags(job: JobRow) -> dict[str, str]:
    """What MLflow itself shows of a run's origin."""
    commit = str(job.provenance.get("git_commit", "")).removesuffix("+")
    tags = {
        "mlflow.user": str(job.provenance.get("user", "")),
        "mlflow.source.name": "orchestrate",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit,
    }
    return {name: value for name, value in tags.items() if value}


def model_name(job: str, stage: str, number: int) -> str:
    """A logged model's name, without the characters that MLflow refuses there."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", f"{job}-{stage}-{number}")


def datasets(job: JobRow, *, tested: bool = False) -> list[DatasetRef]:
    """The job's data, one entry a split: MLflow keeps one context for a name and digest."""
    task = job.provenance.get("task")
    if not task:
        return []
    plugin = job.provenance.get("plugins", {}).get(f"task:{task['name']}", "")
    source = {"task": task["name"], "options": task.get("options", {}), "plugin": plugin}
    profile = {"input": task["input"], "classes": task["classes"]}
    name, digest = task["name"], task["digest"]
    found = [
        DatasetRef(name, digest, source, "training", profile),
        DatasetRef(f"{name}-validation", digest, source, "validation", profile),
    ]
    return [*found, DatasetRef(f"{name}-test", digest, source, "test", profile)] if tested else found


def progress_points(steps: Sequence[Progress]) -> list[Point]:
    """`hypervolume`, `best/GOAL` and the quality indicators over the number of scored trials, where they
    change and at the end.
    """
    last: dict[str, float] = {}
    points: list[Point] = []
    for step in steps:
        values = {f"best/{name}": value for name, value in step.best.items()}
        if step.hypervolume is not None and step.best:
            values["hypervolume"] = step.hypervolume
            values.update(step.indicators)
        for name, value in values.items():
            if last.get(name) != value or step is steps[-1]:
                points.append(Point(name, value, step.count, ms(step.at)))
        last.update(values)
    return points


def diagnostic_points(stage: StageRow) -> list[Point]:
    """`sampler/NAME`: the sampler's own metrics over the number of asks, or over its training's steps."""
    return [
        Point(f"sampler/{name}", value, step, ms(datetime.fromisoformat(entry["at"])))
        for entry in stage.summary.get("diagnostics", [])
        for name, curve in diagnosed(entry)
        for step, value in curve
    ]


def count_points(trials: Sequence[TrialRow], at: datetime) -> list[Point]:
    """`trials/STATE` for each state that occurs."""
    states = [trial.state for trial in trials]
    return [
        Point(f"trials/{state}", states.count(state), 0, ms(at))
        for state in TERMINAL_TRIAL_STATES
        if state in states
    ]


# Stage ----------------------------------------------------------------------------------------------


def stage_params(job: JobRow, stage: StageRow) -> dict[str, object]:
    """The stage's section of the job file, flat."""
    return {name: value for name, value in flat(_section(job, stage)).items() if name != "name"}


def stage_tags(job: JobRow, stage: StageRow) -> dict[str, str]:
    """The stage's state and its plugins' versions."""
    tags = {
        "orchestrate.stage": stage.name,
        "orchestrate.state": stage.state,
        "orchestrate.reason": stage.reason,
        "orchestrate.recall_context": stage.context,
        "orchestrate.seed": str(job.seed),
        **stage_plugins(job, stage),
    }
    return {name: value for name, value in tags.items() if value}


def stage_plugins(job: JobRow, stage: StageRow) -> dict[str, str]:
    """The plugins that run in a stage, with their versions."""
    section = _section(job, stage)
    used = [("program", section.get("program")), ("sampler", section.get("sampler"))]
    used += [("space", section.get("space") or job.spec.get("space")), ("fingerprint", section.get("recall"))]
    return {f"orchestrate.{kind}": plugin_label(job, kind, plugin["name"]) for kind, plugin in used if plugin}


def trials_table(
    stage: StageFacts,
    run_ids: Mapping[int, str],
    hits: Mapping[int, HitRow],
    origins: Mapping[int, Origin],
    invalid: Mapping[int, str],
) -> tuple[list[str], list[list[object]]]:
    """Every trial of a stage as a row: those without a run of their own are found here.

    Args:
        stage: the stage.
        run_ids: runs of trials that have one.
        hits: what recalled and audited trials were served.
        origins: the trials that others were recalled from.
        invalid: reasons of invalidations, by tombstone.

    All but the last are by the catalog's trial ids.
    """
    choices = list(dict.fromkeys(name for trial in stage.trials for name in trial.candidate))
    goals = list(dict.fromkeys(name for trial in stage.trials for name in trial.values))
    spread = len(choices) <= COLUMNS
    columns = ["trial", "state", *goals, "recalled from", "by key", "saved s", "hashed for s", "invalid"]
    columns += [*(choices if spread else ["candidate"]), "run", "source run", "reason", "digest"]
    rows: list[list[object]] = []
    for trial in stage.trials:
        drawn = (
            [trial.candidate.get(name) for name in choices] if spread else [canonical_json(trial.candidate)]
        )
        values = [trial.values.get(name) for name in goals]
        hit = hits.get(trial.id)
        spent = trial.timings.get("fingerprint")
        origin = origins.get(trial.recalled_from) if trial.recalled_from is not None else None
        why = invalid.get(hit.tombstone_id) if hit and hit.tombstone_id is not None else None
        recalled = [origin and origin.entity, hit and hit.tier, hit and hit.saved_seconds, spent, why]
        end = [run_ids.get(trial.id), origin and origin.run_id, trial.reason, trial.digest]
        rows.append([trial.number, trial.state, *values, *recalled, *drawn, *end])
    return columns, rows


# Trial ----------------------------------------------------------------------------------------------


def trial_tags(trial: TrialRow, files: Sequence[ArtifactRow]) -> dict[str, str]:
    """What a trial is known by, how it ended, and where its files are."""
    tags = {
        "orchestrate.state": trial.state,
        "orchestrate.reason": trial.reason,
        "orchestrate.digest": trial.digest,
        "orchestrate.seed": str(trial.seed),
        "orchestrate.attempts": str(trial.attempts),
        **{f"orchestrate.fingerprint.{tier}": str(key) for tier, key in trial.keys},
        **{f"orchestrate.file.{file.kind}": f"{file.uri} sha256:{file.sha256}" for file in files},
    }
    return {name: value for name, value in tags.items() if value}


def recall_tags(found: Served) -> dict[str, str]:
    """What recall knows of a trial: its class, and what it was served, by which key, at what saving."""
    tags = {"orchestrate.recall.class": str(found.class_id), "orchestrate.recall.tier": found.tier}
    if found.values is not None:
        served = [source for source in found.sources if source.served]
        origins = [f"{one.job_id}/{one.stage}/{one.number}" for one in served]
        tags["orchestrate.recall.served"] = ", ".join(origins)
        tags["orchestrate.recall.saved_seconds"] = f"{found.saved_seconds:.6g}"
        tags["orchestrate.recall.hash_seconds"] = f"{found.hash_seconds:.6g}"
    if found.audited:
        tags["orchestrate.recall.audit"] = json.dumps(found.differences)
    if found.invalid:
        tags["orchestrate.recall.invalid"] = found.invalid
    return tags


def origin_tags_of(origin: Origin, served: Served | None) -> dict[str, str]:
    """Tags and note that lead to the trial whose result a trial was given."""
    tags = {"orchestrate.recalled_from": origin.entity}
    if origin.run_id is not None:
        tags["orchestrate.recalled_from_run"] = origin.run_id
    note = f"Recalled from {origin.shown}"
    if served is not None:
        note += f" by its {served.tier} key; that saved {served.saved_seconds:.3g} s of running"
        note += f". Invalid: {served.invalid}" if served.invalid else ""
    return {**tags, NOTE: f"{note}."}


def recall_points(found: Statistics, at: datetime) -> list[Point]:
    """`recall/…`: the hit rate over the proposals, and at the end hits by tier, times, audits."""
    points = [Point("recall/hit_rate", rate, count, ms(at)) for count, rate in found.curve]
    final = {
        **{f"hits/{tier}": float(count) for tier, count in found.by_tier.items()},
        "trainings": float(found.trainings),
        "classes": float(found.classes),
        "degenerate": float(sum(found.degenerate.values())),
        "hash_seconds": found.hash_seconds,
        "saved_seconds": sum(found.saved_seconds.values()),
        "net_seconds": found.net_seconds,
        "waited_seconds": found.waited_seconds,
    }
    if found.audit.audited:
        final |= {"audited": float(found.audit.audited), "wrong_merges": float(found.audit.wrong)}
        final |= {"wrong_merges_low": found.audit.low, "wrong_merges_high": found.audit.high}
    return points + [Point(f"recall/{name}", value, 0, ms(at)) for name, value in final.items()]


def trial_points(trial: TrialRow, reports: Sequence[ReportRow]) -> list[Point]:
    """Metrics by step, the final ones, `objective/GOAL`, `test/METRIC` and `seconds/PART`."""
    points = [
        Point(name, value, report.step, ms(report.at))
        for report in reports
        for name, value in report.metrics.items()
    ]
    if trial.ended_at is None:
        return points
    end = ms(trial.ended_at)
    last = reports[-1] if reports else None
    step = last.step if last else 0
    final = {
        name: value
        for name, value in trial.metrics.items()
        if last is None or last.metrics.get(name) != value
    }
    points += [Point(name, value, step, end) for name, value in final.items()]
    points += [Point(f"objective/{name}", value, 0, end) for name, value in trial.values.items()]
    points += [Point(f"test/{name}", value, 0, end) for name, value in (trial.test or {}).items()]
    points += [Point(f"confirmed/{name}", value, 0, end) for name, value in (trial.confirmed or {}).items()]
    points += [Point(f"seconds/{name}", value, 0, end) for name, value in trial.timings.items()]
    return points


# Parts ----------------------------------------------------------------------------------------------


def _section(job: JobRow, stage: StageRow) -> dict[str, Any]:
    return next(known for known in job.spec["stages"] if known["name"] == stage.name)


def plugin_label(job: JobRow, kind: str, name: str) -> str:
    """A plugin's name with its distribution and version."""
    origin = job.provenance.get("plugins", {}).get(f"{kind}:{name}", "")
    return f"{name} ({origin})" if origin else name


def flat(data: Any, prefix: str = "") -> dict[str, object]:
    """Nested JSON data as one level of dotted names; list entries by their `name` where they have one."""
    if data and isinstance(data, dict):
        pairs = list(cast("dict[str, Any]", data).items())
    elif isinstance(data, list) and any(isinstance(item, dict) for item in cast("list[Any]", data)):
        pairs = [(_name(item, index), item) for index, item in enumerate(cast("list[Any]", data))]
    else:
        return {prefix: data if isinstance(data, str) else json.dumps(data, sort_keys=True)} if prefix else {}
    found: dict[str, object] = {}
    for name, value in pairs:
        for path, leaf in flat(value, f"{prefix}.{name}" if prefix else name).items():
            unique, count = path, 2
            while unique in found:  # two entries of one name
                unique, count = f"{path}#{count}", count + 1
            found[unique] = leaf
    return found


def _name(item: Any, index: int) -> str:
    if not isinstance(item, dict):
        return str(index)
    known = cast("dict[str, Any]", item)
    return str(known.get("label") or known.get("metric") or known.get("name") or index)
