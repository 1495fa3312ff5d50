"""From a job file to a job: every mistake at once, each with its line, path, value and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrate.core import Registry, SpecError, load, resolve
from orchestrate.core.errors import Problem
from orchestrate.core.yamlfile import read

GOOD = """\
name: good
space: {name: nasbench201, width: 4, depth: 1}
objectives:
  - {name: accuracy}
  - {name: flops, max: 5e6, reference: 1.0e6}
stages:
  - name: search
    program: {name: train, epochs: 2}
    sampler: {name: random}
    trials: 10
  - name: final
    program: {name: train, epochs: 4}
    take: {from: search, pareto: 2}
seed: 3
"""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.discover()


def problems(text: str, registry: Registry) -> list[Problem]:
    document = read(text, "job.yaml")
    with pytest.raises(SpecError) as caught:
        resolve(document.data, registry, document)
    return list(caught.value.problems)


def test_a_good_file_becomes_a_job(registry: Registry) -> None:
    job = resolve(read(GOOD).data, registry)
    assert [goal.name for goal in job.goals] == ["accuracy", "flops"]
    assert [goal.direction for goal in job.goals] == ["maximize", "minimize"]
    assert job.goals[1].maximum == 5e6
    assert [stage.spec.name for stage in job.stages] == ["search", "final"]
    assert job.stages[0].program.options.model_dump()["epochs"] == 2
    assert job.uses_task
    seeds = {job.stages[0].trial_seed(number) for number in range(100)} | {job.stages[0].problem.seed}
    assert len(seeds) == 101


def test_the_spec_rebuilds_the_job(registry: Registry) -> None:
    job = resolve(read(GOOD).data, registry)
    again = resolve(job.spec.model_dump(mode="json", by_alias=True, exclude_none=True), registry)
    assert again.spec == job.spec


def test_all_mistakes_come_at_once_with_their_places(registry: Registry) -> None:
    text = GOOD.replace("nasbench201", "nasbench20").replace("accuracy", "acuracy")
    text = (
        text.replace("epochs: 2", "epoch: 2")
        .replace("trials: 10", "trials: many")
        .replace("seed: 3", "sed: 3")
    )
    found = {problem.path: problem for problem in problems(text, registry)}
    assert {path: problem.line for path, problem in found.items()} == {
        "space.name": 2,
        "objectives.0.name": 4,
        "stages.0.program.epoch": 8,
        "stages.0.trials": 10,
        "sed": 14,
    }
    assert "Did you mean 'nasbench201'" in found["space.name"].message
    assert "Did you mean 'accuracy'" in found["objectives.0.name"].message
    assert "Did you mean 'epochs'" in found["stages.0.program.epoch"].remedy
    assert found["stages.0.trials"].value == "many"
    assert "'seed'" in found["sed"].remedy


@pytest.mark.parametrize(
    ("old", "new", "path", "text"),
    [
        ("from: search", "from: serch", "stages.1.take.from", "no earlier stage is called 'serch'"),
        ("name: final", "name: search", "stages.1.name", "a second stage called 'search'"),
        (
            "{name: nasbench201, width: 4, depth: 1}",
            "{name: hyperparameters, choices: {x: {real: [0, 1]}}}",
            "objectives.1",
            "'flops' needs networks, and space 'hyperparameters' of stage 'search' builds none",
        ),
        (
            "program: {name: train, epochs: 2}",
            "program: train",
            "stages.0.program",
            'Write `{name: "train"}`',
        ),
        ("epochs: 2}", "epochs: 2}\n    take: search", "stages.0.take", "a map is wanted (got 'search')."),
        ("name: good", "name: a/b", "name", "letters, digits, spaces and . _ - only"),
        (
            "  - {name: accuracy}\n",
            "  - {name: flops}\n",
            "objectives.1",
            "a second objective called 'flops'",
        ),
        ("{name: accuracy}", "{metric: f1}", "objectives.0", "no sense of its own"),
        ("{name: accuracy}", "{name: accuracy, direction: none}", "objectives.0", "give `min` or `max`"),
        ("max: 5e6", "max: 5e6, min: 6e6", "objectives.1", "min 6e+06 is above max 5e+06"),
        ("    trials: 10\n", "", "stages.0", "needs `trials`, `trainings` or `time_budget`"),
        ("trials: 10", "trials: 10\n    take: {from: search, best: 1}", "stages.0", "not both"),
        ("pareto: 2", "pareto: 2, best: 1", "stages.1.take", "exactly one"),
        ("trials: 10", "trials: 10\n    time_budget: soon", "stages.0.time_budget", "90s, 10m, 1.5h, 2d"),
        (
            "trials: 10",
            "trials: 10\n    early_stopping: {name: asha, objective: flops}",
            "stages.0.early_stopping",
            "not reported by step",
        ),
        (
            "trials: 10",
            "trials: 10\n    early_stopping: {name: asha, objective: loss}",
            "stages.0.early_stopping.objective",
            "no objective is called 'loss'",
        ),
        ("{name: random}", "{name: cma-es}", "stages.0.sampler", "nsga2"),
        ("seed: 3", "seed: 18446744073709551616", "seed", "less than"),
        ("epochs: 2}", "epochs: 2, schedule: {name: cosin}}", "stages.0.program.schedule", "cosine"),
    ],
)
def test_each_mistake_is_explained(registry: Registry, old: str, new: str, path: str, text: str) -> None:
    assert old in GOOD
    found = problems(GOOD.replace(old, new), registry)
    matching = [problem for problem in found if problem.path.startswith(path)]
    assert matching, found
    assert text in str(matching[0])
    assert matching[0].line


def test_parts_that_do_not_fit_are_refused(registry: Registry) -> None:
    choices = "{name: hyperparameters, choices: {x: {real: [0, 1]}}}"
    text = GOOD.replace("{name: nasbench201, width: 4, depth: 1}", choices)
    assert any("builds none" in str(problem) for problem in problems(text, registry))
    text = GOOD.replace("space: {name: nasbench201, width: 4, depth: 1}\n", "")
    assert any("needs a space" in str(problem) for problem in problems(text, registry))


def test_a_file_that_is_no_map_or_not_there(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="a job file is a map"):
        resolve([1, 2], registry)
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(SpecError, match=r"empty\.yaml: a job file is a map"):
        load(tmp_path / "empty.yaml", registry)
    with pytest.raises(SpecError, match="can't read the job file"):
        load(tmp_path / "nowhere.yaml", registry)


def overridden(tmp_path: Path, registry: Registry, *overrides: str) -> Any:
    path = tmp_path / "job.yaml"
    path.write_text(GOOD, encoding="utf-8")
    return load(path, registry, overrides).spec


def test_values_can_be_overridden_by_path(registry: Registry, tmp_path: Path) -> None:
    spec = overridden(
        tmp_path,
        registry,
        "stages.search.trials=5",
        "stages.1.program.epochs=9",
        "resources.cpu=0.5",
        "seed=8",
    )
    assert (spec.stages[0].trials, spec.stages[1].program.options["epochs"]) == (5, 9)
    assert (spec.resources.cpu, spec.seed) == (0.5, 8)


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("seed", "path=value"),
        ("stages.serch.trials=5", "Did you mean 'search'"),
        ("seed.x=5", "neither a map nor a list"),
        ("stages.search.trials=-1", "greater than 0"),
    ],
)
def test_a_bad_override_is_refused(registry: Registry, tmp_path: Path, override: str, text: str) -> None:
    with pytest.raises(SpecError, match=text):
        overridden(tmp_path, registry, override)
