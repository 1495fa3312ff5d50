"""Plugins found, named, blocked, broken and clashing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrate.core import (
    Candidate,
    PluginError,
    Program,
    Registry,
    Sampler,
    UnknownPluginError,
    hookimpl,
)
from orchestrate.core import hookspecs as specs
from orchestrate.core.registry import Source


class First(Sampler):
    """Always the first option."""

    name = "first"
    summary = "the first option"

    def ask(self, number: int) -> Candidate:
        return self.problem.space.generate(lambda choice: (choice.values or [0.0])[0])


class Good:
    @hookimpl
    def samplers(self) -> Sequence[type[Sampler]]:
        return [First]

    @hookimpl
    def schedules(self) -> dict[str, Any]:
        return {"flat": lambda total_steps: lambda step: 1.0}


def source(name: str, distribution: str = "package") -> Source:
    return Source(name, f"{distribution}.{name}", distribution, "1.2")


def fails() -> object:
    raise ImportError("no such library")


def registry(*loads: tuple[str, Callable[[], object]], without: Sequence[str] = ()) -> Registry:
    return Registry([(source(name, f"dist-{name}"), load) for name, load in loads], without)


def test_built_ins_are_found_through_entry_points() -> None:
    found = Registry.discover()
    assert found.failures == []
    assert {"tpe", "nsga2", "nsga3", "cma-es", "gp", "qmc", "random", "grid", "evolution"} <= set(
        found.names("sampler")
    )
    assert {"digits", "fashion-mnist", "image-folder"} <= set(found.names("task"))
    assert {entry.source.distribution for entry in found} == {"orchestrate-automl"}


def broken_signature() -> object:
    class Wrong:
        @hookimpl
        def samplers(self, nope: int) -> list[Any]:
            return []

    return Wrong()


def misspelt_hook() -> object:
    class Wrong:
        @hookimpl
        def sampler(self) -> list[Any]:
            return [First]

    return Wrong()


def not_a_sampler() -> object:
    class Wrong:
        @hookimpl
        def samplers(self) -> list[Any]:
            return [int]

    return Wrong()


def nameless() -> object:
    class Nameless(Sampler):
        def ask(self, number: int) -> Candidate:
            return Candidate()

    class Wrong:
        @hookimpl
        def samplers(self) -> list[Any]:
            return [Nameless]

    return Wrong()


@pytest.mark.parametrize(
    ("load", "cause"),
    [
        (fails, "no such library"),
        (broken_signature, "nope"),
        (misspelt_hook, "sampler"),
        (not_a_sampler, "no subclass of Sampler"),
        (nameless, "'name'"),
    ],
)
def test_a_broken_plugin_is_reported_and_takes_nothing_down(load: Callable[[], object], cause: str) -> None:
    found = registry(("broken", load), ("good", Good))
    assert found.names("sampler") == ["first"]
    (failure,) = found.failures
    assert failure.source.distribution == "dist-broken"
    assert cause in failure.cause
    assert "Traceback" in failure.details
    with pytest.raises(UnknownPluginError, match="dist-broken"):
        found.get("sampler", "frist")


def test_two_plugins_with_one_name_are_an_error_that_names_both() -> None:
    with pytest.raises(PluginError, match=r"dist-one.*dist-two.*--without two"):
        registry(("one", Good), ("two", Good))


def test_without_blocks_by_entry_point_or_distribution() -> None:
    for name in ("one", "dist-one"):
        found = registry(("one", Good), ("two", Good), without=[name])
        assert found.get("sampler", "first").source.entry_point == "two"
        assert [blocked.entry_point for blocked in found.blocked] == ["one"]
    with pytest.raises(PluginError, match="Did you mean 'one'"):
        registry(("one", Good), without=["oen"])


def test_an_unknown_name_gets_near_misses_and_the_list() -> None:
    with pytest.raises(
        UnknownPluginError, match=r"no sampler is called 'frist'. Did you mean 'first'\? Known: first"
    ):
        registry(("good", Good)).get("sampler", "frist")
    with pytest.raises(UnknownPluginError, match="Did you mean 'flat'"):
        registry(("good", Good)).schedule("flatt")


MODULE = '''
from orchestrate.core import Evaluation, Program, Sampler
class Mine(Program):
    """My own program."""
    def run(self, trial): return Evaluation({"loss": 1.0})
class Abstract(Program):
    """Lacks run."""
def function(trial, rate: float = 0.5): return {"loss": rate}
def nothing(): return 1.0
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "their_module.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "their_broken_module.py").write_text("import a_module_that_is_nowhere", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "their_module", raising=False)
    return "their_module"


def test_a_class_or_function_by_reference(module: str) -> None:
    found = registry()
    program = found.create(Program, f"python:{module}:Mine")
    assert program.summary == "My own program."
    options = found.get("program", f"python:{module}:function").plugin.Options
    assert options.model_validate({}).model_dump() == {"rate": 0.5}


@pytest.mark.parametrize(
    ("kind", "reference", "text"),
    [
        ("program", "python:their_module", "must have the form"),
        ("program", "python:their_module:Mien", "Did you mean 'Mine'"),
        ("program", "python:nowhere_at_all:X", "importing 'nowhere_at_all' failed"),
        ("program", "python:their_broken_module:X", "a_module_that_is_nowhere"),
        ("program", "python:their_module:Abstract", "doesn't implement run"),
        ("program", "python:their_module:nothing", "must take the trial"),
        ("sampler", "python:their_module:Mine", "no subclass of Sampler"),
    ],
)
def test_a_bad_reference_says_what_is_wrong(module: str, kind: Any, reference: str, text: str) -> None:
    with pytest.raises(PluginError, match=text):
        registry().get(kind, reference)


def test_every_hook_says_when_it_is_called_and_since_when() -> None:
    hooks = [value for value in vars(specs).values() if hasattr(value, "orchestrate_spec")]
    assert len(hooks) == 15
    for hook in hooks:
        assert hook.__doc__ is not None
        assert "Since 0." in hook.__doc__
