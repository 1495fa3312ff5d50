"""The report as Markdown: what was run, what came of it, what it cost, how to run it again."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from ...core.objective import Goal
from ..models import TERMINAL_TRIAL_STATES, TrialRow
from .facts import JobFacts, StageFacts
from .text import between, candidate, cell, code, duration, moment, number, shortened, size, table

SHOWN = 20  # rows of the front before the rest is only counted
PICTURES = (
    ("pareto.svg", "Trials and Pareto front"),
    ("preferences.svg", "What serves which preference"),
    ("history.svg", "Progress"),
    ("sampler.svg", "The sampler's own metrics"),
    ("lineage.svg", "Lineage"),
)

Link = Callable[[TrialRow], str]


def report(facts: JobFacts, pictures: Sequence[str]) -> str:
    """The whole report. `pictures` are the files beside it, of those that `PICTURES` names."""
    lines = [
        f"# {facts.row.name}",
        "",
        summary(facts),
        "",
        *_section("Result", result(facts)),
        *_pictures(pictures, ("pareto.svg", "preferences.svg", "history.svg", "sampler.svg")),
        *_section("Stages", stages(facts)),
        *_section("What failed", _failures(facts)),
        *_section("Cost", _cost(facts)),
        *_section("Lineage", _lineage(facts)),
        *_pictures(pictures, ("lineage.svg",)),
        *_section("Run it again", _again(facts)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def summary(facts: JobFacts) -> str:
    """The job in two or three sentences."""
    row = facts.row
    trials = [trial for stage in facts.stages for trial in stage.trials]
    took = between(row.started_at, row.ended_at or _last_end(trials))
    reason = f": {cell(row.reason)}" if row.reason else ""
    words = [
        f"Job {code(row.id)} is **{row.state}**{reason}.",
        f"Stages: {len(facts.stages)}, trials: {len(trials)}"
        + (f", {duration(took)}" if took is not None else "")
        + (f", started {moment(row.started_at)}." if row.started_at else "."),
    ]
    if facts.goals:
        words.append(f"Goals: {', '.join(_goal(goal) for goal in facts.goals)}.")
    best = [
        f"stage {code(stage.name)}: {_values(stage.leading(facts.goals), facts.goals)}"
        for stage in facts.stages
        if stage.goals and stage.front
    ]
    if best and facts.optimised:
        words.append(f"Best by {code(facts.optimised[0].name)}, {'; '.join(best)}.")
    return " ".join(words)


def result(facts: JobFacts, shown: int = SHOWN, link: Link | None = None) -> list[str]:
    """The chosen trials, their values and test scores."""
    stage = facts.answer
    if stage is None:
        return []
    if not stage.front:
        scored = len(stage.scored)
        why = "none of them is feasible" if scored else "so nothing can be chosen"
        return [f"Stage {code(stage.name)} has {scored} scored trials; {why}."]
    goals = [goal.name for goal in facts.goals]
    tests = sorted({name for trial in stage.front for name in trial.test or {}})
    rows: list[list[str]] = []
    for trial in stage.front[:shown]:
        values = [number(trial.values[name]) for name in goals]
        scores = [number(trial.test[name]) if trial.test and name in trial.test else "" for name in tests]
        label = link(trial) if link else str(trial.number)
        rows.append([label, *values, *scores, code(candidate(trial.candidate))])
    several = len(facts.optimised) > 1
    noun = f"the Pareto set of {len(stage.front)}" if several else "the best"
    lines = [
        f"Stage {code(stage.name)}: {noun}, of {len(stage.scored)} scored trials.",
        "",
        *table(["trial", *goals, *(f"test {name}" for name in tests), "candidate"], rows),
    ]
    if len(stage.front) > shown:
        lines += ["", f"{len(stage.front) - shown} more are in the catalog."]
    if tests:
        lines += ["", "Test scores were taken once, after the search; nothing was selected by them."]
    elif stage.scored:
        lines += ["", "No test scores: the stage's program has no test, or the job ended before it."]
    if several and stage.progress:
        last = stage.progress[-1]
        if last.hypervolume is not None:
            lines += ["", f"Hypervolume {number(last.hypervolume)}; best alone: {_best(facts, stage)}."]
        if last.indicators:
            lines += ["", _indicators(last.indicators)]
    return lines


def stages(facts: JobFacts, link: Callable[[StageFacts], str] | None = None) -> list[str]:
    """One row a stage: what ran and how its trials ended."""
    rows: list[list[str]] = []
    for stage in facts.stages:
        took = between(stage.row.started_at, stage.row.ended_at)
        source = "-"
        if stage.spec.sampler:
            source = stage.spec.sampler.name
        elif stage.spec.take:
            source = f"from {stage.spec.take.from_}"
        rows.append(
            [
                link(stage) if link else cell(stage.name),
                stage.row.state + (f" ({cell(shortened(stage.row.reason, 80))})" if stage.row.reason else ""),
                code(stage.spec.program.name),
                code(source),
                code(stage.spec.recall.name) if stage.spec.recall else "-",
                ", ".join(f"{count} {state}" for state, count in _ordered(stage.counts)) or "none",
                _values(stage.leading(facts.goals), facts.goals) or "-",
                duration(took) if took is not None else "-",
            ]
        )
    return table(["stage", "state", "program", "candidates", "recall", "trials", "best", "time"], rows)


def _indicators(values: Mapping[str, float]) -> str:
    """What `storage.report.quality` found at the end, apart from what is compared with the end."""
    shown = [f"R2 {number(values['r2'])}", f"median reward {number(values['reward_percentile_50'])}"]
    if "top_10_reward" in values:
        shown.append(f"the ten best for a preference: reward {number(values['top_10_reward'])}")
        shown.append(f"diversity {number(values['top_10_diversity'])}")
    return f"Over all preferences, goals scaled to 0 to 1: {', '.join(shown)}."


def _best(facts: JobFacts, stage: StageFacts) -> str:
    return _values(stage.progress[-1].best, facts.optimised)


def _values(values: Mapping[str, float], goals: Sequence[Goal]) -> str:
    return ", ".join(f"{goal.name} {number(values[goal.name])}" for goal in goals if goal.name in values)


def _failures(facts: JobFacts) -> list[str]:
    causes: dict[tuple[str, str, str], list[int]] = {}
    for stage in facts.stages:
        for trial in stage.trials:
            if trial.state in ("failed", "lost"):
                causes.setdefault((stage.name, trial.state, trial.reason), []).append(trial.number)
    rows = [
        [cell(stage), state, str(len(numbers)), _some(numbers), code(shortened(reason, 200))]
        for (stage, state, reason), numbers in sorted(causes.items(), key=lambda item: -len(item[1]))[:SHOWN]
    ]
    return table(["stage", "state", "how many", "trials", "cause"], rows) if rows else []


def _cost(facts: JobFacts) -> list[str]:
    rows: list[list[str]] = []
    saved, recalled = 0.0, 0
    for stage in facts.stages:
        runs = [float(trial.timings["run"]) for trial in stage.trials if "run" in trial.timings]
        own = [
            sum(float(trial.timings.get(name, 0.0)) for name in ("propose", "fingerprint", "launch"))
            for trial in stage.trials
            if trial.attempts
        ]
        again = stage.counts["recalled"]
        mean = sum(runs) / len(runs) if runs else 0.0
        recalled += again
        saved += again * mean
        rows.append(
            [
                cell(stage.name),
                str(sum(trial.attempts for trial in stage.trials)),
                str(again),
                duration(sum(runs)),
                duration(mean) if runs else "-",
                f"{1000 * sum(own) / len(own):.0f} ms" if own else "-",
            ]
        )
    columns = ["stage", "launches", "recalled", "time in programs", "mean a trial", "our own, a launch"]
    lines = table(columns, rows)
    if recalled:
        told = f"Recall answered {recalled} of the candidates without a run: about {duration(saved)} saved"
        lines += ["", f"{told} (their number times the stage's mean)."]
    return lines


def _lineage(facts: JobFacts) -> list[str]:
    known = facts.row.provenance
    task = known.get("task")
    lines: list[str] = []
    if task:
        lines.append(
            f"- Data: task {code(task['name'])}, content digest {code(task['digest'])}, "
            f"input {'x'.join(map(str, task['input']))}, {task['classes']} classes"
        )
    lines.append(f"- Seed: {facts.row.seed}")
    used = _used(facts)
    plugins = known.get("plugins", {})
    lines += [f"- Plugin {code(name)}: {code(plugins[name])}" for name in used if name in plugins]
    packages = [f"{name} {version}" for name, version in known.get("packages", {}).items()]
    if packages:
        lines.append(f"- Packages: {cell(', '.join(packages))}")
    if known.get("git_commit"):
        commit = known["git_commit"]
        unclean = " (with uncommitted changes)" if commit.endswith("+") else ""
        lines.append(f"- Code: commit {code(commit.removesuffix('+'))}{unclean}")
    where = [
        f"Python {known[k]}" if k == "python" else str(known[k])
        for k in ("python", "platform", "host")
        if known.get(k)
    ]
    if where:
        lines.append(f"- Ran on: {cell(', '.join(where))}")
    files = [artifact for trial in facts.chosen for artifact in facts.files(trial)]
    if files:
        lines += ["", "Files of the chosen trials:", ""]
        rows = [
            [code(file.kind), size(file.size), code(file.sha256[:16]), code(Path(file.uri))]
            for file in files[:SHOWN]
        ]
        lines += table(["file", "size", "SHA-256", "where"], rows)
    return lines


def _again(facts: JobFacts) -> list[str]:
    command = [str(part) for part in facts.row.provenance.get("command", [])]
    promise = (
        "The job file below, the seed in it and the versions above give the same candidates; with one "
        "trial at a time and a deterministic program, the same numbers."
    )
    lines = [promise, ""]
    if command:
        shown = shlex.join([Path(command[0]).name, *command[1:]])
        lines += ["It was started by", "", *_fenced(shown, "shell"), ""]
    return [*lines, *_fenced(facts.row.text.rstrip(), "yaml")]


def _fenced(text: str, language: str) -> list[str]:
    fence = "```"
    while fence in text:
        fence += "`"
    return [f"{fence}{language}", text, fence]


def _used(facts: JobFacts) -> list[str]:
    spec = facts.spec
    names = [f"task:{spec.task_name}"]
    names += [f"space:{space.name}" for space in (spec.space, *(s.space for s in spec.stages)) if space]
    names += [f"objective:{objective.name}" for objective in spec.objectives]
    for stage in spec.stages:
        names.append(f"program:{stage.program.name}")
        names += [f"sampler:{stage.sampler.name}"] if stage.sampler else []
        names += [f"fingerprint:{stage.recall.name}"] if stage.recall else []
        names += [f"parallel strategy:{stage.workers.strategy.name}"] if stage.workers else []
    return list(dict.fromkeys(names))


def _goal(goal: Goal) -> str:
    words = [f"{goal.direction or 'bound'} {code(goal.name)}"]
    words += [f"at least {number(goal.minimum)}"] if goal.minimum is not None else []
    words += [f"at most {number(goal.maximum)}"] if goal.maximum is not None else []
    return " ".join(words)


def _ordered(counts: Counter[str]) -> list[tuple[str, int]]:
    order = (*TERMINAL_TRIAL_STATES, "running", "queued")
    return [(state, counts[state]) for state in order if counts[state]]


def _some(numbers: Sequence[int], limit: int = 8) -> str:
    shown = ", ".join(map(str, numbers[:limit]))
    return shown + (", …" if len(numbers) > limit else "")


def _last_end(trials: Sequence[TrialRow]) -> datetime | None:
    return max((trial.ended_at for trial in trials if trial.ended_at), default=None)


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *lines, ""] if lines else []


def _pictures(present: Sequence[str], wanted: Sequence[str]) -> list[str]:
    return [
        line
        for name, title in PICTURES
        if name in present and name in wanted
        for line in (f"![{title}]({name})", "")
    ]
