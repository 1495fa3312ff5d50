"""`orchestrate plugins`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from orchestrate.cli.commands.plugins import options_of
from orchestrate.core import PluginOptions, StaticObjective
from orchestrate.core.registry import Registered, Registry, Source
from tests.cli.conftest import Run
from tests.cli.test_main import distribution


def test_the_list_has_every_plugin_once(run: Run) -> None:
    data = json.loads(run("plugins", "list", "--json").out)
    registry = Registry.discover()
    assert [(row["kind"], row["name"]) for row in data["plugins"]] == [
        (entry.plugin.kind, entry.plugin.name) for entry in registry
    ]
    assert data["failures"] == []
    assert data["schedules"] == sorted(registry.schedules)


def test_the_list_can_be_narrowed_to_a_kind(run: Run) -> None:
    rows = json.loads(run("plugins", "list", "--kind", "task", "--json").out)["plugins"]
    assert {row["kind"] for row in rows} == {"task"}
    shown = run("plugins", "list", "--kind", "task").out
    assert "digits" in shown
    assert "nsga2" not in shown


def test_a_broken_plugin_is_listed_with_its_cause(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = "[orchestrate.plugins]\nbad = acme_bad\n"
    distribution(tmp_path / "site", "acme-bad", points, acme_bad="import no_such_module\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    ended = run("plugins", "list")
    assert ended.code == 0
    assert "broken: acme-bad 1.0 (bad): ModuleNotFoundError: No module named 'no_such_module'" in ended.out


def test_show_tells_the_options_with_types_defaults_and_descriptions(run: Run) -> None:
    ended = run("plugins", "show", "train")
    assert ended.out.startswith("program train\n")
    rows = {
        row["name"]: row for row in json.loads(run("plugins", "show", "train", "--json").out)[0]["options"]
    }
    assert rows["epochs"]["default"] == 12
    assert rows["epochs"]["type"].startswith("integer")
    assert rows["optimizer"]["type"] == "sgd | adam | adamw"
    assert rows["augment"]["type"] == "map"
    assert rows["augment.flip"]["default"] is False
    for name in rows:
        assert name in ended.out


@pytest.mark.parametrize(
    "entry", list(Registry.discover()), ids=lambda entry: f"{entry.plugin.kind} {entry.plugin.name}"
)
def test_every_installed_plugin_can_be_shown_and_describes_its_options(run: Run, entry: Registered) -> None:
    ended = run("plugins", "show", entry.plugin.name, "--kind", entry.plugin.kind)
    assert ended.code == 0
    assert entry.plugin.summary in ended.out
    assert all(row["description"] for row in options_of(entry))


class Oddities(PluginOptions):
    """Options of every shape."""

    needed: int = Field(ge=1, lt=10, description="needed")
    maybe: float | None = Field(None, gt=0, description="maybe")
    several: list[str] = Field(default_factory=list[str], description="several")
    one: Literal["a"] = Field("a", description="one")


class Odd(StaticObjective[Oddities]):
    """Odd."""

    name, summary = "odd", "odd"


def test_types_are_told_in_a_few_words() -> None:
    source = Source("odd", "odd", "odd", "1")
    rows = {row["name"]: row for row in options_of(Registered(Odd, source))}
    assert rows["needed"]["type"] == "integer ≥ 1 < 10"
    assert rows["needed"]["required"]
    assert rows["maybe"]["type"] == "number > 0 | null"
    assert rows["several"]["type"] == "list of string"
    assert rows["one"]["type"] == "a"


def test_a_function_of_ones_own_is_shown_with_its_arguments(run: Run, tmp_path: Path) -> None:
    text = 'def fit(trial, depth: int = 3):\n    """Fit something."""\n'
    (tmp_path / "own_program.py").write_text(text, encoding="utf-8")
    ended = run("plugins", "show", "python:own_program:fit", "--kind", "program")
    assert ended.code == 0
    assert "Fit something." in ended.out
    assert "depth" in ended.out
    missing = run("plugins", "show", "python:own_program:fit")
    assert missing.code == 2
    assert "--kind" in missing.err
