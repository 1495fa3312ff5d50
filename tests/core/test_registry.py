from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrate.core import (
    Choose,
    PluginError,
    PluginOptions,
    Program,
    Registry,
    Sampler,
    SearchSpace,
    hookimpl,
)
from orchestrate.core.errors import UnknownPluginError
from orchestrate.core.registry import Source


def space(name: str) -> type[SearchSpace]:
    class Made(SearchSpace):
        """A space."""

        summary = "a space"

        def choices(self, choose: Choose) -> None:
            choose.integer("n", 0, 1)

    Made.name = name
    return Made


class Giving:
    """A plugin module in all but name: gives the classes and schedules it is made with."""

    def __init__(self, *spaces: Any, schedules: Mapping[str, Any] | None = None) -> None:
        self._spaces = spaces
        self._schedules = schedules or {}

    @hookimpl
    def search_spaces(self) -> Any:
        return list(self._spaces)

    @hookimpl
    def schedules(self) -> Any:
        return self._schedules


def source(name: str) -> Source:
    return Source(name, f"{name}.module", f"{name}-package", "1.2")


def registry(without: tuple[str, ...] = (), **plugins: Any) -> Registry:
    def load(plugin: Any) -> Callable[[], object]:
        return plugin if callable(plugin) and not isinstance(plugin, type) else lambda: plugin

    return Registry([(source(name), load(plugin)) for name, plugin in plugins.items()], without)


def test_plugins_are_found_by_kind_and_name() -> None:
    made = registry(a=Giving(space("grid"), space("tree")), b=Giving(space("net")))
    assert made.names("space") == ["grid", "net", "tree"]
    assert made.names("sampler") == []
    assert made.get("space", "net").source == source("b")
    assert str(made.get("space", "net").source) == "b-package 1.2 (b)"
    assert [one.plugin.name for one in made] == ["grid", "net", "tree"]
    assert made.create(SearchSpace, "tree").size() == 2
    assert made.failures == []


def test_an_unknown_name_names_the_near_ones() -> None:
    with pytest.raises(UnknownPluginError, match=r"no space is called 'gird'. Did you mean 'grid'\?"):
        registry(a=Giving(space("grid"))).get("space", "gird")


@pytest.mark.parametrize(
    "error", [ImportError("no module named torch"), SyntaxError("bad"), SystemExit(3)], ids=repr
)
def test_a_plugin_that_fails_to_load_takes_nothing_down(error: BaseException) -> None:
    def load() -> object:
        raise error

    made = registry(a=Giving(space("grid")), broken=load, z=Giving(space("tree")))
    assert made.names("space") == ["grid", "tree"]
    (failure,) = made.failures
    assert failure.source == source("broken")
    assert failure.summary == f"{type(error).__name__}: {error}"
    assert "Traceback" in failure.details
    with pytest.raises(UnknownPluginError, match=r"Failed to load: broken-package 1.2 \(broken\)"):
        made.get("space", "net")


class Abstract(SearchSpace):
    """Has no choices."""

    name = "abstract"
    summary = "has no choices"


class Nameless(SearchSpace):
    """Has no name."""

    summary = "has no name"

    def choices(self, choose: Choose) -> None:
        """Choose nothing."""


class Misspelt:
    """Implements a hook that doesn't exist."""

    @hookimpl
    def search_space(self) -> Any:
        return []


class Demanding:
    """Implements a hook with an argument that it doesn't have."""

    @hookimpl
    def search_spaces(self, job: Any) -> Any:
        return []


class Raising:
    """Fails while it registers."""

    @hookimpl
    def search_spaces(self) -> Any:
        raise ValueError("not today")


@pytest.mark.parametrize(
    ("plugin", "cause"),
    [
        (Giving(Abstract), "Abstract doesn't implement choices"),
        (Giving(Nameless), "Nameless has no 'name'"),
        (Giving(Sampler), "no subclass of SearchSpace"),
        (Giving("grid"), "no subclass of SearchSpace"),
        (Misspelt(), "search_space"),
        (Demanding(), "job"),
        (Raising(), "not today"),
    ],
    ids=["abstract", "nameless", "kind", "string", "misspelt", "argument", "raising"],
)
def test_a_plugin_that_breaks_the_rules_is_reported_and_left_out(plugin: Any, cause: str) -> None:
    made = registry(a=Giving(space("grid")), broken=plugin)
    assert made.names("space") == ["grid"]
    assert cause in made.failures[0].cause
    made.listen(SimpleNamespace())  # the broken one left nothing behind that would fail later


def test_two_plugins_with_one_name_are_an_error_that_names_both() -> None:
    with pytest.raises(PluginError) as caught:
        registry(a=Giving(space("grid")), b=Giving(space("grid")))
    assert "two plugins give the space 'grid'" in str(caught.value)
    assert "a-package 1.2 (a) and b-package 1.2 (b)" in str(caught.value)
    assert "--without b" in str(caught.value)


def test_blocking_one_resolves_the_clash() -> None:
    for name in ("b", "b-package"):
        made = registry((name,), a=Giving(space("grid")), b=Giving(space("grid"), space("tree")))
        assert made.names("space") == ["grid"]
        assert made.blocked == [source("b")]


def test_blocking_what_is_not_there_is_an_error() -> None:
    with pytest.raises(PluginError, match=r"--without grd: .*Did you mean 'grid'"):
        registry(("grd",), grid=Giving())


def test_schedules_are_named_and_clash_too() -> None:
    made = registry(a=Giving(schedules={"flat": lambda total: lambda step: 1.0}))
    assert made.schedule("flat")(10)(3) == 1.0
    assert list(made.schedules) == ["flat"]
    with pytest.raises(UnknownPluginError, match=r"no schedule is called 'flet'. Did you mean 'flat'"):
        made.schedule("flet")
    with pytest.raises(PluginError, match="two plugins give the schedule 'flat'"):
        registry(a=Giving(schedules={"flat": None}), b=Giving(schedules={"flat": None}))


def test_a_plugin_may_be_a_class() -> None:
    class Whole:
        """Is instantiated before its hooks are called."""

        @hookimpl
        def search_spaces(self) -> Any:
            return [space("grid")]

    assert registry(a=Whole).names("space") == ["grid"]


def test_listeners_hear_the_life_cycle() -> None:
    heard: list[Any] = []

    class Listener:
        @hookimpl
        def job_started(self, event: Any) -> None:
            heard.append(event)

    made = registry()
    made.listen(Listener())
    made.hook.job_started(event="now")
    assert heard == ["now"]


MODULE = '''
"""A module of the user's own."""
from orchestrate.core import Choose, PluginOptions, SearchSpace
from orchestrate.core.errors import TrialError

__version__ = "3.1"

class Mine(SearchSpace):
    """Two candidates.

    And more text.
    """
    def choices(self, choose):
        choose.integer("n", 0, 1)

class Named(Mine):
    """Keeps its name."""
    name = "named"
    summary = "its own summary"

def train(trial, epochs: int, rate=0.1, *, quiet: bool = False):
    """Trains.

    Slowly."""
    return {"score": trial + epochs * rate, "quiet": quiet}

def number(trial):
    return 4

def nothing(trial):
    return None

def orphan():
    return 1

value = 3
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_plugins.py").write_text(MODULE)
    (tmp_path / "broken_plugins.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "my_plugins"
    sys.modules.pop("my_plugins", None)
    sys.modules.pop("broken_plugins", None)


def test_a_class_by_reference(module: str) -> None:
    found = registry().get("space", f"python:{module}:Mine")
    assert found.plugin.name == f"python:{module}:Mine"
    assert found.plugin.summary == "Two candidates."
    assert found.source.version == "3.1"
    assert registry().create(SearchSpace, f"python:{module}:Mine").size() == 2
    assert registry().get("space", f"python:{module}:Named").plugin.name == "named"


def test_a_function_by_reference_is_a_program(module: str) -> None:
    program = registry().create(Program, f"python:{module}:train", {"epochs": 5})
    assert program.summary == "Trains."
    assert program.run(2).metrics == {"score": 2.5, "quiet": 0.0}  # type: ignore[arg-type]
    assert registry().create(Program, f"python:{module}:number").run(0).metrics == {"value": 4.0}  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="returned a NoneType: return a mapping"):
        registry().create(Program, f"python:{module}:nothing").run(0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="epochs"):
        registry().create(Program, f"python:{module}:train")
    with pytest.raises(ValueError, match="Extra inputs"):
        registry().create(Program, f"python:{module}:train", {"epochs": 5, "epoch": 3})
    with pytest.raises(ValueError, match="valid integer"):
        registry().create(Program, f"python:{module}:train", {"epochs": "many"})


@pytest.mark.parametrize(
    ("kind", "reference", "text"),
    [
        ("space", "python:my_plugins", "must have the form"),
        ("space", "python::Mine", "must have the form"),
        ("space", "python:no_such_module:Mine", "importing 'no_such_module' failed"),
        ("space", "python:broken_plugins:Mine", "ModuleNotFoundError: .*no_such_module"),
        ("space", "python:my_plugins:Mne", "has no 'Mne'. Did you mean 'Mine'"),
        ("sampler", "python:my_plugins:Mine", "no subclass of Sampler"),
        ("space", "python:my_plugins:value", "no subclass of SearchSpace"),
        ("space", "python:my_plugins:train", "no subclass of SearchSpace"),
        ("program", "python:my_plugins:orphan", "must take the trial as its first argument"),
    ],
)
def test_a_wrong_reference_says_what_is_wrong(module: str, kind: Any, reference: str, text: str) -> None:
    with pytest.raises(PluginError, match=text):
        registry().get(kind, reference)


def test_discovery_imports_nothing_heavy_and_every_built_in_loads() -> None:
    code = """
import sys
from orchestrate.core import Registry
registry = Registry.discover()
assert not registry.failures, registry.failures
assert {"random", "tpe", "nsga2"} <= set(registry.names("sampler"))
heavy = {"torch", "ray", "mlflow", "sqlalchemy", "optuna"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_options_come_from_the_type_argument() -> None:
    class Sized(PluginOptions):
        size: int = 3

    class Options(SearchSpace[Sized]):
        """A space with an option."""

        name = "options"
        summary = "a space"

        def choices(self, choose: Choose) -> None:
            choose.integer("n", 1, self.options.size)

    class Inheriting(Options):
        """Inherits the option."""

    assert Options.Options is Inheriting.Options is Sized
    assert Inheriting(Sized(size=5)).size() == 5
    assert Options().size() == 3
    with pytest.raises(ValueError, match="frozen"):
        Options().options.size = 4  # type: ignore[misc]
