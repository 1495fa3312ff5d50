"""The registry: which plugins are installed, who brought them, and what is wrong with the broken ones."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar, cast

import pluggy

from . import hookspecs
from .errors import PluginError, UnknownPluginError, near_misses
from .fingerprint import Fingerprint
from .hookspecs import GROUP, PROJECT, REGISTRATION, ScheduleFactory
from .objective import Objective
from .parallel import ParallelStrategy
from .plugin import Kind, Plugin
from .program import Program
from .sampler import Sampler
from .space import SearchSpace
from .task import Task

PREFIX = "python:"

BASES: Mapping[Kind, type[Plugin]] = {
    "task": Task,
    "space": SearchSpace,
    "sampler": Sampler,
    "objective": Objective,
    "program": Program,
    "fingerprint": Fingerprint,
    "parallel strategy": ParallelStrategy,
}

PluginT = TypeVar("PluginT", bound=Plugin)


@dataclass(frozen=True)
class Source:
    """Where a plugin comes from."""

    entry_point: str
    module: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version} ({self.entry_point})"


@dataclass(frozen=True)
class Registered:
    """A plugin class and its source."""

    plugin: type[Plugin]
    source: Source


@dataclass(frozen=True)
class Failure:
    """An entry point that couldn't be used. `details` is the traceback."""

    source: Source
    cause: str
    details: str

    @property
    def summary(self) -> str:
        """The first line of the cause."""
        return self.cause.partition("\n")[0]


class Registry:
    """The plugins of this process.

    Each entry point is loaded by itself: one that fails is kept in `failures` and takes nothing else
    down. The table of plugins doesn't change once made.
    """

    def __init__(
        self, sources: Iterable[tuple[Source, Callable[[], object]]], without: Sequence[str] = ()
    ) -> None:
        """Load plugins from `sources`, pairs of a source and a function that imports it.

        Raises:
            PluginError: two plugins of one kind share a name; or `without` names nothing installed.
        """
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._table: dict[Kind, dict[str, Registered]] = {kind: {} for kind in BASES}
        self._schedules: dict[str, tuple[ScheduleFactory, Source]] = {}
        self.failures: list[Failure] = []
        self.blocked: list[Source] = []
        found = list(sources)
        blockable = {source.entry_point for source, _ in found} | {source.distribution for source, _ in found}
        for name in without:
            if name not in blockable:
                raise UnknownPluginError(
                    f"--without {name}: no such plugin package. {near_misses(name, blockable)}"
                )
        for source, load in found:
            if source.entry_point in without or source.distribution in without:
                self.blocked.append(source)
            else:
                self._load(source, load)

    @classmethod
    def discover(cls, without: Sequence[str] = ()) -> Registry:
        """Load every installed plugin (entry points of group `orchestrate.plugins`)."""
        points = sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))
        unique = {(point.name, point.value): point for point in points}
        return cls([(_source(point), point.load) for point in unique.values()], without)

    def get(self, kind: Kind, name: str) -> Registered:
        """Look a plugin up by kind and name, or load `python:package.module:Attribute`.

        Raises:
            UnknownPluginError: with near misses, the installed names and the failed entry points.
            PluginError: a `python:` reference that can't be imported or is of the wrong kind.
        """
        if name.startswith(PREFIX):
            return _reference(kind, name)
        try:
            return self._table[kind][name]
        except KeyError:
            broken = "".join(
                f" Failed to load: {failure.source}: {failure.cause.partition(chr(10))[0]}."
                for failure in self.failures
            )
            raise UnknownPluginError(
                f"no {kind} is called {name!r}. {near_misses(name, self._table[kind])}{broken}"
            ) from None

    def create(self, kind: type[PluginT], name: str, options: Mapping[str, Any] | None = None) -> PluginT:
        """Instantiate the plugin `name` of the kind whose base class is `kind`.

        Raises:
            UnknownPluginError: no such plugin.
            pydantic.ValidationError: wrong options.
        """
        plugin = self.get(kind.kind, name).plugin
        return cast(PluginT, plugin(plugin.Options.model_validate(dict(options or {}))))

    def names(self, kind: Kind) -> list[str]:
        """Names of the plugins of a kind, sorted."""
        return sorted(self._table[kind])

    def schedule(self, name: str) -> ScheduleFactory:
        """Look a learning-rate schedule up.

        Raises:
            UnknownPluginError: with near misses.
        """
        try:
            return self._schedules[name][0]
        except KeyError:
            raise UnknownPluginError(
                f"no schedule is called {name!r}. {near_misses(name, self._schedules)}"
            ) from None

    @property
    def schedules(self) -> Mapping[str, ScheduleFactory]:
        """All learning-rate schedules by name."""
        return {name: factory for name, (factory, _) in sorted(self._schedules.items())}

    def __iter__(self) -> Iterator[Registered]:
        for kind in self._table:
            for name in self.names(kind):
                yield self._table[kind][name]

    @property
    def hook(self) -> Any:
        """Pluggy's hook relay, for the life-cycle hooks."""
        return self._manager.hook

    def listen(self, listener: object) -> None:
        """Register an object with life-cycle hook implementations (`@hookimpl`)."""
        self._manager.register(listener)
        self._manager.check_pending()

    def _load(self, source: Source, load: Callable[[], object]) -> None:
        plugin: object | None = None
        try:
            plugin = load()
            if isinstance(plugin, type):
                plugin = plugin()
            self._manager.register(plugin, name=f"{source.distribution}:{source.entry_point}")
            self._manager.check_pending()
            found: list[tuple[Kind, Any]] = [
                (kind, cls)
                for kind, hook in REGISTRATION.items()
                for cls in self._call(plugin, hook, list[Any])
            ]
            for kind, cls in found:
                _check_class(kind, cls)
            schedules = self._call(plugin, "schedules", dict[str, Any])
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a stranger's import raises is reported, not spread
            if plugin is not None and self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            cause = f"{type(error).__name__}: {error}"
            self.failures.append(Failure(source, cause, "".join(traceback.format_exception(error))))
            return
        for kind, cls in found:
            self._add(kind, cls, source)
        for name, factory in schedules.items():
            if name in self._schedules:
                raise _clash("schedule", name, self._schedules[name][1], source)
            self._schedules[name] = (factory, source)

    def _call(self, plugin: object, hook: str, collect: Callable[[Any], Any]) -> Any:
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            if implementation.plugin is plugin:
                return collect(implementation.function())
        return collect(())

    def _add(self, kind: Kind, cls: type[Plugin], source: Source) -> None:
        table = self._table[kind]
        if cls.name in table:
            raise _clash(kind, cls.name, table[cls.name].source, source)
        table[cls.name] = Registered(cls, source)


def _source(point: EntryPoint) -> Source:
    distribution = point.dist
    return Source(
        entry_point=point.name,
        module=point.value,
        distribution=distribution.name if distribution else "unknown",
        version=distribution.version if distribution else "0",
    )


def _clash(kind: str, name: str, first: Source, second: Source) -> PluginError:
    return PluginError(
        f"two plugins give the {kind} {name!r}: {first} and {second}. "
        f"Block one with --without {second.entry_point}, or uninstall it."
    )


def _check_class(kind: Kind, cls: Any) -> None:
    base: Any = BASES[kind]
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise PluginError(f"{REGISTRATION[kind]}() gave {cls!r}, which is no subclass of {base.__name__}")
    for attribute in ("name", "summary"):
        if not isinstance(getattr(cls, attribute, None), str):
            raise PluginError(f"{cls.__qualname__} has no {attribute!r}: give the class one (a str)")
    if abstract := getattr(cls, "__abstractmethods__", None):
        missing = ", ".join(sorted(abstract))
        raise PluginError(f"{cls.__qualname__} doesn't implement {missing}")


def import_from_here() -> None:
    """Let `python:package.module:…` find modules in the current folder, as `python -m` would."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def imported(name: str) -> Any:
    """Import what `python:package.module:Attribute` names.

    Raises:
        PluginError: another form, a module that can't be imported, or no such attribute.
    """
    module_name, _, attribute = name.removeprefix(PREFIX).partition(":")
    if not name.startswith(PREFIX) or not module_name or not attribute:
        raise PluginError(f"{name!r} must have the form python:package.module:Attribute")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise PluginError(
            f"{name}: importing {module_name!r} failed: {type(error).__name__}: {error}. "
            "The module must be installed, or lie in the folder the command is run from"
        ) from error
    target = getattr(module, attribute, None)
    if target is None:
        public = [key for key in vars(module) if not key.startswith("_")]
        raise PluginError(f"{name}: {module_name} has no {attribute!r}. {near_misses(attribute, public)}")
    return target


def _reference(kind: Kind, name: str) -> Registered:
    """Load `python:package.module:Attribute`."""
    from .function import function_program

    target = imported(name)
    module_name = name.removeprefix(PREFIX).partition(":")[0]
    module = sys.modules[module_name]
    source = Source(
        name, module_name, module_name.partition(".")[0], str(getattr(module, "__version__", "0"))
    )
    if kind == "program" and inspect.isfunction(target):
        return Registered(function_program(name, target), source)
    if isinstance(target, type) and "name" not in vars(target):
        target = cast(type, type(target.__name__, (target,), {"name": name, "summary": _first_line(target)}))
    _check_class(kind, target)
    return Registered(target, source)


def _first_line(target: object) -> str:
    return (inspect.getdoc(target) or "").partition("\n")[0]
