"""Job files: every mistake at once, each with its line, path, value and way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from orchestrate.core import (
    Candidate,
    Evaluation,
    Goal,
    Job,
    PluginOptions,
    Program,
    Registry,
    SpecError,
    StageName,
    TrialContext,
    hookimpl,
    load,
    resolve,
)
from orchestrate.core.registry import Source
from orchestrate.core.seeds import spawn

PLAIN = """\
name: job
task: {name: digits}
space:
  name: hyperparameters
  choices:
    width: {integer: [1, 64]}
    rate: {real: [0.001, 1.0]}
objectives:
  - {metric: loss, direction: minimize}
  - {metric: cost, direction: none, max: 3}
stages:
  - name: search
    program: {name: probe, rounds: 3}
    sampler: {name: tpe}
    trials: 20
  - name: final
    program: {name: probe, source: search}
    take: {from: search, best: 2}
"""


class ProbeOptions(PluginOptions):
    rounds: int = Field(1, ge=1, description="Rounds.")
    source: StageName | None = Field(None, description="An earlier stage.")


class Probe(Program[ProbeOptions]):
    """A program without a network."""

    name = "probe"
    summary = "a program without a network"
    batch = 50

    def run(self, trial: TrialContext) -> Evaluation:
        return Evaluation({"loss": 1.0})

    def check(self, space: Any, task: Any) -> None:
        if self.options.rounds == 13:
            raise SpecError("13 rounds bring bad luck: take 12")


class Plugins:
    @hookimpl
    def programs(self) -> Any:
        return [Probe]


def everything() -> Registry:
    from importlib.metadata import entry_points

    from orchestrate.core.hookspecs import GROUP

    built_in = [
        (Source(point.name, point.value, "orchestrate-automl", "0"), point.load)
        for point in entry_points(group=GROUP)
    ]
    return Registry([*built_in, (Source("probe", "tests", "tests", "0"), Plugins)])


REGISTRY = everything()


def read(text: str, tmp_path: Path, *overrides: str) -> Job:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    return load(file, REGISTRY, overrides)


def mistakes(text: str, tmp_path: Path, *overrides: str) -> dict[str, str]:
    """Path of each mistake, and its text."""
    with pytest.raises(SpecError) as caught:
        read(text, tmp_path, *overrides)
    assert str(tmp_path / "job.yaml") in str(caught.value)
    assert "Traceback" not in str(caught.value)
    return {one.path: f"{one.line}: {one.message}. {one.remedy}" for one in caught.value.problems}


def changed(old: str, new: str) -> str:
    assert old in PLAIN
    return PLAIN.replace(old, new)


def test_a_job_file_becomes_a_job(tmp_path: Path) -> None:
    job = read(PLAIN, tmp_path)
    search, final = job.stages
    assert job.task.name == "digits"
    assert job.goals == (Goal("loss", "minimize"), Goal("cost", None, maximum=3.0))
    assert [stage.program.options.rounds for stage in job.stages] == [3, 1]  # type: ignore[attr-defined]
    assert search.sampler is not None
    assert search.space is final.space
    assert final.sampler is None
    assert job.stage("final") is final
    assert job.uses_task
    assert search.batch == 1  # TPE learns from each result
    assert search.problem.optimised == (Goal("loss", "minimize"),)
    assert search.problem.budget == 20


def test_seeds_are_split_by_stage_and_trial(tmp_path: Path) -> None:
    job = read(PLAIN + "seed: 5\n", tmp_path)
    first, second = job.stages
    assert first.problem.seed == spawn(5, 0, 0)
    assert first.trial_seed(3) == spawn(5, 0, 1, 3)
    seeds = {first.problem.seed, second.problem.seed} | {
        stage.trial_seed(number) for stage in job.stages for number in range(50)
    }
    assert len(seeds) == 102


def test_a_spec_alone_rebuilds_the_job(tmp_path: Path) -> None:
    job = read(PLAIN, tmp_path)
    again = resolve(job.spec.model_dump(mode="json", by_alias=True), REGISTRY)
    assert again.spec == job.spec
    assert again.goals == job.goals


def test_a_batch_is_what_program_and_sampler_agree_on(tmp_path: Path) -> None:
    assert read(changed("{name: tpe}", "{name: random}"), tmp_path).stages[0].batch == 50
    assert read(changed("{name: tpe}", "{name: nsga2, population_size: 8}"), tmp_path).stages[0].batch == 8
    assert read(changed("trials: 20", "trials: 20\n    batch: 7"), tmp_path).stages[0].batch == 7


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    text = """\
name: job
taks: {name: digits}
space: {name: hyperparametrs}
objectives:
  - {metric: loss}
  - {name: accuracy, min: 2, max: 1}
stages:
  - name: search
    program: {name: probe, rounds: 0, round: 3}
    sampler: {name: tpe, n_startup_trial: 5}
    trials: -3
  - name: "bad/name"
    program: {name: prob}
"""
    found = mistakes(text, tmp_path)
    assert found["taks"].startswith("2: unknown key. Did you mean 'task'")
    assert "Did you mean 'hyperparameters'" in found["space.name"]
    assert found["objectives.1"] == "6: min 2 is above max 1. "
    assert found["stages.0.trials"].startswith("11: ")
    assert found["stages.1.name"].startswith("12: ")
    assert found["stages.0.program.rounds"].startswith("9: ")
    assert "Did you mean 'rounds'" in found["stages.0.program.round"]
    assert "Did you mean 'n_startup_trials'" in found["stages.0.sampler.n_startup_trial"]
    assert "Did you mean 'probe'" in found["stages.1.program.name"]


def test_mistakes_stand_in_the_order_of_the_file_with_their_values(tmp_path: Path) -> None:
    text = changed("trials: 20", "trials: many").replace("rounds: 3", "rounds: some")
    with pytest.raises(SpecError) as caught:
        read(text, tmp_path)
    lines = [problem.line for problem in caught.value.problems]
    assert lines == sorted(lines)  # type: ignore[type-var]
    assert "(got 'many')" in str(caught.value)
    assert "(got 'some')" in str(caught.value)
    assert str(caught.value).startswith("the job file has 2 mistakes:")


WRONG = {
    "sampler and take": (
        "sampler: {name: tpe}",
        "sampler: {name: tpe}\n    take: {from: search, best: 1}",
        "stages.0",
        "give `sampler` or `take`, not both",
    ),
    "no end": ("    trials: 20\n", "", "stages.0", "would never end"),
    "trials without a sampler": (
        "take: {from: search, best: 2}",
        "trials: 3",
        "stages.1",
        "`trials` needs a `sampler`",
    ),
    "recall without a sampler": (
        "take: {from: search, best: 2}",
        "recall: {name: exact}",
        "stages.1",
        "`recall` needs a `sampler`",
    ),
    "two ways to take": ("best: 2", "best: 2, pareto: 1", "stages.1.take", "exactly one of"),
    "no way to take": (", best: 2", "", "stages.1.take", "exactly one of"),
    "a duration": ("trials: 20", "time_budget: soon", "stages.0.time_budget", "like 90s, 10m"),
    "a negative duration": ("trials: 20", "time_budget: -3", "stages.0.time_budget", "greater than 0"),
    "an unknown section key": (
        "trials: 20",
        "trials: 20\n    resources: {cpus: 2}",
        "stages.0.resources.cpus",
        "Did you mean 'cpu'",
    ),
    "a batch spread over workers": (
        "trials: 20",
        "trials: 20\n    batch: 5\n    workers: {count: 2, strategy: {name: all-reduce}}",
        "stages.0",
        "can't be stopped early or spread",
    ),
    "one worker": (
        "trials: 20",
        "trials: 20\n    workers: {count: 1, strategy: {name: all-reduce}}",
        "stages.0.workers.count",
        "greater than or equal to 2",
    ),
    "a strategy": (
        "trials: 20",
        "trials: 20\n    workers: {count: 2, strategy: {name: all-reduc}}",
        "stages.0.workers.strategy.name",
        "Did you mean 'all-reduce'",
    ),
    "a fingerprint": (
        "trials: 20",
        "trials: 20\n    recall: {name: exct}",
        "stages.0.recall.name",
        "Did you mean 'exact'",
    ),
    "a mere bound without one": (
        "direction: none, max: 3",
        "direction: none",
        "objectives.1",
        "give `min` or `max`",
    ),
    "a task": ("digits", "digit", "task.name", "Did you mean 'digits'"),
    "no stages": ("stages:", "stages: []\nstage:", "stages", "at least 1 item"),
    "an empty name": ("name: job", "name: ''", "name", "at least 1 character"),
    "a negative seed": ("name: job", "name: job\nseed: -1", "seed", "greater than or equal to 0"),
    "no sense": (", direction: minimize", "", "objectives.0", "has no sense of its own"),
    "a second of one name": ("metric: cost", "metric: loss", "objectives.1", "a second objective called"),
    "nothing to optimise": (
        "direction: minimize",
        "direction: none, max: 1",
        "stages.0",
        "needs an objective to optimise",
    ),
    "a second stage of one name": ("name: final", "name: search", "stages.1.name", "a second stage called"),
    "a later stage": (
        "take: {from: search",
        "take: {from: final",
        "stages.1.take.from",
        "no earlier stage is called 'final'",
    ),
    "a stage that an option names": (
        "source: search",
        "source: serch",
        "stages.1.program.source",
        "Did you mean 'search'",
    ),
    "a program that needs networks": (
        "{name: probe, rounds: 3}",
        "{name: train}",
        "stages.0.program",
        "needs networks, and space 'hyperparameters' builds none",
    ),
    "a program's own check": (
        "rounds: 3",
        "rounds: 13",
        "stages.0.program",
        "13 rounds bring bad luck: take 12",
    ),
    "a sampler's own check": (
        "{name: tpe}",
        "{name: grid}",
        "stages.0.sampler",
        "give `points`",
    ),
    "early stopping without steps": (
        "trials: 20",
        "trials: 20\n    early_stopping: {name: asha}",
        "stages.0.early_stopping",
        "doesn't report by step",
    ),
    "early stopping by nothing": (
        "trials: 20",
        "trials: 20\n    early_stopping: {name: median, objective: los}",
        "stages.0.early_stopping.objective",
        "Did you mean 'loss'",
    ),
}


@pytest.mark.parametrize(("old", "new", "path", "message"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_named_where_it_stands(
    tmp_path: Path, old: str, new: str, path: str, message: str
) -> None:
    found = mistakes(changed(old, new), tmp_path)
    assert path in found, found
    assert message in found[path]
    assert not found[path].startswith("None")


def test_a_search_needs_a_space(tmp_path: Path) -> None:
    start, end = PLAIN.index("space:"), PLAIN.index("objectives:")
    found = mistakes(PLAIN[:start] + PLAIN[end:], tmp_path)
    assert "needs a space" in found["stages.0"]


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text\n"])
def test_a_file_that_is_no_map_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SpecError, match="a job file is a map with at least `name` and `stages`"):
        read(text, tmp_path)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"can't read the job file .*nowhere\.yaml"):
        load(tmp_path / "nowhere.yaml", REGISTRY)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="can't read the job file"):
        load(tmp_path / "binary.yaml", REGISTRY)
    with pytest.raises(SpecError, match="can't read the job file"):
        load(tmp_path, REGISTRY)


def test_overrides_reach_maps_lists_and_names(tmp_path: Path) -> None:
    job = read(
        PLAIN,
        tmp_path,
        "stages.0.trials=5",
        "stages.search.sampler.n_startup_trials=3",
        "seed=9",
        "space.choices.width={integer: [2, 4]}",
        "resources.cpu=0.5",
    )
    assert job.spec.stages[0].trials == 5
    assert job.stages[0].sampler.options.n_startup_trials == 3  # type: ignore[union-attr]
    assert job.spec.seed == 9
    assert job.spec.resources.cpu == 0.5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trials", "write it as path=value"),
        ("=5", "write it as path=value"),
        ("stages.7.trials=5", "no entry '7'"),
        ("stages.serch.trials=5", "Did you mean 'search'"),
        ("name.first=5", "neither a map nor a list"),
        ("name.first.second=5", "there is no 'first'"),
        ("seed=[1", "not valid YAML"),
    ],
)
def test_a_wrong_override_is_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(SpecError, match=r"--set|YAML") as caught:
        read(PLAIN, tmp_path, override)
    assert message in str(caught.value)


def test_an_override_is_checked_like_the_file(tmp_path: Path) -> None:
    found = mistakes(PLAIN, tmp_path, "stages.0.trials=0", "stages.0.sampler.nmae=x")
    assert set(found) == {"stages.0.trials", "stages.0.sampler.nmae"}


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90s", 90), ("10m", 600), ("1.5h", 5400), ("2d", 172800), ("45", None), ("30", 30)],
)
def test_durations(tmp_path: Path, written: str, seconds: float | None) -> None:
    text = changed("trials: 20", f"time_budget: {written}")
    if seconds is None:  # a text without a unit
        assert "stages.0.time_budget" in mistakes(text, tmp_path)
    else:
        assert read(text, tmp_path).spec.stages[0].time_budget == seconds


def test_a_job_without_a_search_needs_no_space_and_no_objective() -> None:
    job = resolve({"name": "one", "stages": [{"name": "run", "program": {"name": "probe"}}]}, REGISTRY)
    (stage,) = job.stages
    assert stage.space.generate(lambda choice: None) == Candidate()
    assert stage.goals == ()
    assert not job.uses_task


def test_a_worker_need_not_check_again(tmp_path: Path) -> None:
    job = read(PLAIN, tmp_path)
    data = job.spec.model_dump(mode="json", by_alias=True)
    data["stages"][0]["program"]["rounds"] = 13
    with pytest.raises(SpecError, match="bad luck"):
        resolve(data, REGISTRY)
    assert resolve(data, REGISTRY, check=False).stages[0].program.options.rounds == 13  # type: ignore[attr-defined]
