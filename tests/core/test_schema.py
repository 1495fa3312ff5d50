"""The JSON Schema of the job file accepts what is right and refuses what is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ConfigDict, Field

from orchestrate.core import Candidate, SearchSpace, Shape, StaticObjective, hookimpl, resolve
from orchestrate.core.errors import SpecError
from orchestrate.core.plugin import PluginOptions
from orchestrate.core.registry import Registry, Source
from orchestrate.core.schema import job_schema
from orchestrate.core.yamlfile import read

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.discover()


@pytest.fixture(scope="module")
def schema(registry: Registry) -> dict[str, Any]:
    made = job_schema(registry)
    jsonschema.Draft202012Validator.check_schema(made)
    return made


def errors(schema: dict[str, Any], data: Any) -> list[str]:
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(data)]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_valid(schema: dict[str, Any], path: Path) -> None:
    assert errors(schema, read(path.read_text(encoding="utf-8")).data) == []


def test_every_definition_is_used_and_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    assert set(re.findall(r'"#/\$defs/([^"]+)"', json.dumps(schema))) == set(schema["$defs"])


JOB: dict[str, Any] = {
    "name": "job",
    "task": {"name": "digits"},
    "space": {"name": "nasbench201", "width": 4},
    "objectives": [{"name": "accuracy", "min": 0.1}, {"metric": "loss", "direction": "minimize"}],
    "stages": [
        {
            "name": "search",
            "program": {"name": "train", "epochs": 2},
            "sampler": {"name": "random"},
            "recall": {"name": "exact", "scope": "job"},
            "trials": 4,
            "time_budget": "10m",
        }
    ],
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """`JOB` with another value at `path`."""
    data = json.loads(json.dumps(JOB))
    *parents, last = path.split(".")
    here = data
    for part in parents:
        here = here[int(part)] if isinstance(here, list) else here[part]
    here[int(last) if isinstance(here, list) else last] = value
    return data


RIGHT = [
    ("time_budget", 90),
    ("time_budget", "1.5h"),
    ("stages.0.program", {"name": "python:mine:fit", "anything": 1}),
    ("stages.0.sampler", None),
    ("objectives.0", {"name": "accuracy", "direction": "none", "max": 1, "label": "bound"}),
    ("resources", {"cpu": 0.5, "gpu": 1}),
    ("lineage", {"runs": "all", "tags": {"a": "b"}}),
]
WRONG = [
    ("nam", "x"),
    ("name", ""),
    ("task.name", "digit"),
    ("space.width", 0),
    ("space.widht", 4),
    ("stages.0.program.epochs", "many"),
    ("stages.0.program", {"epochs": 3}),
    ("stages.0.sampler.name", "digits"),  # a task, no sampler
    ("stages.0.recall.scope", "all"),
    ("stages", []),
    ("objectives.0", {"direction": "maximize"}),
    ("objectives.1.wrong", 1),
    ("objectives.1.direction", "up"),
    ("time_budget", -1),
    ("seed", -1),
]


def test_a_right_job_is_valid(schema: dict[str, Any], registry: Registry) -> None:
    assert errors(schema, JOB) == []
    resolve(JOB, registry)


@pytest.mark.parametrize(("path", "value"), RIGHT, ids=str)
def test_right_values_are_accepted(schema: dict[str, Any], path: str, value: Any) -> None:
    assert errors(schema, changed(path, value)) == []


@pytest.mark.parametrize(("path", "value"), WRONG, ids=str)
def test_what_the_schema_refuses_is_refused_on_reading(
    schema: dict[str, Any], registry: Registry, path: str, value: Any
) -> None:
    assert errors(schema, changed(path, value))
    with pytest.raises(SpecError):
        resolve(changed(path, value), registry)


class StrangeType:
    """Something that JSON Schema has no word for."""


class StrangeOptions(PluginOptions):
    """Options of a stranger's objective."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    strange: StrangeType = Field(default_factory=StrangeType, description="strange")
    plain: int = Field(1, description="plain")


class StrangeObjective(StaticObjective[StrangeOptions]):
    """A stranger's."""

    name, summary, direction = "strange", "strange", "minimize"

    def compute(self, candidate: Candidate, space: SearchSpace, shape: Shape) -> float:
        return 0.0


def test_a_strangers_plugin_is_in_it_whatever_its_options_are() -> None:
    class Module:
        @staticmethod
        @hookimpl
        def objectives() -> list[type[StrangeObjective]]:
            return [StrangeObjective]

    made = job_schema(Registry([(Source("strange", "strange", "strange", "1"), Module)]))
    known = made["$defs"]["plugin-objective"]["anyOf"]
    assert "strange" in {entry.get("properties", {}).get("name", {}).get("const") for entry in known}
    data = {"name": "x", "objectives": [{"name": "strange", "strange": 7, "plain": 2}]}
    data["stages"] = [{"name": "s", "program": {"name": "python:a:b"}}]
    assert errors(made, data) == []
