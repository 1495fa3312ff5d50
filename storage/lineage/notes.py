"""Notes in Markdown that MLflow shows on the pages of experiments and runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..models import AttemptRow, HitRow, TrialRow
from ..recall import Statistics
from ..report.facts import JobFacts, StageFacts
from ..report.markdown import result, stages, summary
from .client import LONGEST_TAG, NOTE
from .describe import Origin, entity_of
from .links import artifact_url, model_url, run_url

EXPERIMENT_NOTE = (
    "Orchestrate's jobs of this name. A job is a run, called by the job's id; below it a run for each stage, "
    "and below that one for each trial. What came out stands on the job's page; plots are its artifacts."
)
NOTED = 10  # rows of the front in the job's note
NOTED_HITS = 25  # recalled trials in a stage's note


def job_note(facts: JobFacts, experiment_id: str, runs: Mapping[str, str], models: Mapping[int, str]) -> str:
    """A short report as the note of the job's run, with links that work inside MLflow's UI.

    Args:
        facts: the job.
        experiment_id: its experiment.
        runs: run ids by entity.
        models: logged models' ids by the catalog's trial ids.
    """
    job_id = facts.row.id
    run_id = runs[entity_of(job_id)]

    def of_stage(stage: StageFacts) -> str:
        found = runs.get(entity_of(job_id, stage.name))
        return f"[{stage.name}]({run_url('', experiment_id, found)})" if found else stage.name

    def of_trial(trial: TrialRow) -> str:
        assert facts.answer is not None
        found = runs.get(entity_of(job_id, facts.answer.name, trial.number))
        label = f"[{trial.number}]({run_url('', experiment_id, found)})" if found else str(trial.number)
        model = models.get(trial.id)
        return f"{label}, [model]({model_url('', experiment_id, model)})" if model else label

    listed = [
        f"[{file.kind.removeprefix('report/')}]({artifact_url('', experiment_id, run_id, file.kind)})"
        for file in facts.artifacts.get(None, ())
        if file.kind.startswith("report/")
    ]
    for shown in (NOTED, 3, 0):  # as much as fits
        lines = [summary(facts), "", *result(facts, shown, of_trial), "", *stages(facts, of_stage), ""]
        lines += [f"Report: {' · '.join(listed)}"] if listed else []
        note = "\n".join(lines)
        if len(note) < LONGEST_TAG:
            return note
    return summary(facts)[: LONGEST_TAG - 1]


def chosen_note(facts: JobFacts, experiment_id: str, runs: Mapping[str, str], model_id: str | None) -> str:
    """The note of a chosen trial's run: by which job and stage, and where its network and lineage are."""
    assert facts.answer is not None
    job_id, stage = facts.row.id, facts.answer.name
    job_run = runs[entity_of(job_id)]
    why = "On the Pareto front" if len(facts.optimised) > 1 else "The best"
    note = f"{why} of stage [{stage}]({run_url('', experiment_id, runs[entity_of(job_id, stage)])})"
    note += f" of job [{job_id}]({run_url('', experiment_id, job_run)})."
    if model_id is not None:
        note += f" Its network is [this model]({model_url('', experiment_id, model_id)})."
    if any(file.kind == "report/lineage.html" for file in facts.artifacts.get(None, ())):
        lineage = artifact_url("", experiment_id, job_run, "report/lineage.html")
        note += f" How it came to be: [lineage]({lineage})."
    return note


def linked_report(text: str, experiment_id: str, run_id: str) -> str:
    """The report as MLflow can show it: it shows no pictures in Markdown, so they become links."""
    lines = text.split("\n")
    for index, line in enumerate(lines):
        if line.startswith("![") and line.endswith(")"):
            title, _, name = line[2:-1].partition("](")
            lines[index] = f"[{title}]({artifact_url('', experiment_id, run_id, f'report/{name}')})"
    return "\n".join(lines)


def recall_note(
    found: Statistics, trials: Sequence[TrialRow], hits: Mapping[int, HitRow], origins: Mapping[int, Origin]
) -> str:
    """A stage's note: what recall answered, at what saving, and which trial each answer came from."""
    tiers = ", ".join(f"{count:,} by the {tier} key" for tier, count in found.by_tier.items())
    saved = sum(found.saved_seconds.values())
    lines = [
        f"**Recall** answered {found.hits:,} of {found.proposals:,} proposals"
        + (f": {tiers}. " if tiers else ". ")
        + f"It saved {saved:.3g} s of running, and hashing took {found.hash_seconds:.3g} s.",
        "",
    ]
    answered = [
        (trial, hit, origin)
        for trial in trials
        if trial.state == "recalled"
        and trial.recalled_from is not None
        and (hit := hits.get(trial.id)) is not None
        and (origin := origins.get(trial.recalled_from)) is not None
    ]
    if answered:
        lines += ["| trial | recalled from | by key | saved |", "| --- | --- | --- | --- |"]
    for trial, hit, origin in answered[:NOTED_HITS]:
        lines.append(f"| {trial.number} | {origin.shown} | {hit.tier} | {hit.saved_seconds:.3g} s |")
    if answered:
        left = f"{len(answered) - NOTED_HITS:,} more, and all" if len(answered) > NOTED_HITS else "All"
        lines += ["", f"{left} scores, stand in the table `trials.json` among this run's artifacts."]
    return "\n".join(lines)


def attempts_note(attempts: Sequence[AttemptRow]) -> dict[str, str]:
    """What went wrong in a trial, attempt by attempt, as the run's note."""
    lines: list[str] = []
    for attempt in attempts:
        if not attempt.error:
            continue
        error = attempt.error
        lines += [
            f"**Attempt {attempt.number} {attempt.state}**"
            + (f" on {attempt.node}" if attempt.node else "")
            + f": {error.get('type', '')}: {error.get('message', '')}",
            "",
        ]
        if error.get("traceback"):
            # The end of a traceback says most.
            lines += ["```", str(error["traceback"]).replace("```", "'''")[-3000:], "```", ""]
    return {NOTE: "\n".join(lines)[: LONGEST_TAG - 1]} if lines else {}
