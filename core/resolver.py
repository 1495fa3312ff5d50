"""From a job file to a job whose every plugin is found, built and checked: all mistakes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError

from .errors import (
    OrchestrateError,
    PluginError,
    Problem,
    SpecError,
    UnknownPluginError,
    near_misses,
)
from .fingerprint import Fingerprint
from .fitting import misfits
from .job import Job, Stage
from .objective import CombinedObjective, Goal, Objective, ReportedObjective
from .overrides import apply_override
from .parallel import ParallelStrategy
from .plugin import Plugin, PluginOptions, StageReference
from .program import Program
from .registry import Registry
from .sampler import Sampler
from .space import NoSpace, SearchSpace
from .spec import (
    DEFAULT_TASK,
    JobSpec,
    ObjectiveSpec,
    PluginSpec,
)
from .task import Task
from .yamlfile import Document, read

PluginT = TypeVar("PluginT", bound=Plugin)


def load(path: Path, registry: Registry, overrides: Sequence[str] = ()) -> Job:
    """Read a job file, apply `--set path=value` overrides, and resolve it.

    Raises:
        SpecError: every mistake found, each with its line, path, value and remedy.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"can't read the job file {path}: {error}") from None
    document = read(text, str(path))
    for override in overrides:
        apply_override(document, override)
    return resolve(document.data, registry, document)


_NAMED = ("PluginSpec", "ObjectiveSpec", "RecallSpec", "EarlyStoppingSpec")
_PLAINER = {
    "Tuple": "list",
    "Dictionary": "map",
    "valid tuple": "valid list",
    " after validation": "",
}
"""What pydantic says, and a person who writes YAML."""


def resolve(data: Any, registry: Registry, document: Document | None = None, *, check: bool = True) -> Job:
    """Turn a job file's data into a job.

    `check=False` skips the questions of whether the parts fit together: for workers, whose driver has
    asked them.

    Raises:
        SpecError: every mistake found.
    """
    return _Resolver(registry, document or Document(data), check).job(data)


class _Resolver:
    def __init__(self, registry: Registry, document: Document, check: bool) -> None:
        self.registry = registry
        self.check = check
        self.document = document
        self.problems: list[Problem] = []

    def job(self, data: Any) -> Job:
        if not isinstance(data, dict):
            raise SpecError(
                "a job file is a map with at least `name` and `stages`; see `orchestrate schema`",
                file=self.document.file,
            )
        spec = self._parse(cast("dict[str, Any]", data))
        if spec is None:
            self._plugins_of_broken(cast("dict[str, Any]", data))
            self._raise()
        assert spec is not None
        task = self._plugin(Task, spec.task or PluginSpec(name=DEFAULT_TASK), ("task",))
        space = self._plugin(SearchSpace, spec.space, ("space",)) if spec.space else None
        objectives = [
            self._plugin(Objective, objective, ("objectives", index))
            for index, objective in enumerate(spec.objectives)
        ]
        goals = self._goals(spec, objectives)
        self._combined(spec, goals, objectives)
        stages = [
            self._stage(spec, index, space, goals, objectives, task) for index, _ in enumerate(spec.stages)
        ]
        self._names(spec)
        if self.check and not self.problems and task is not None:
            for misfit in (found for stage in stages if stage is not None for found in misfits(stage, task)):
                self.problem(*misfit)
        self._raise()
        assert task is not None
        return Job(
            spec,
            task,
            tuple(goals),
            tuple(objective for objective in objectives if objective is not None),
            tuple(stage for stage in stages if stage is not None),
            self.registry,
        )

    def problem(
        self, path: Sequence[str | int], message: str, remedy: str = "", value: object = None
    ) -> None:
        dotted = ".".join(map(str, path))
        self.problems.append(Problem(dotted, message, remedy, self.document.line(path), value))

    def _raise(self) -> None:
        if self.problems:
            count = len(self.problems)
            noun = "a mistake" if count == 1 else f"{count} mistakes"
            ordered = sorted(self.problems, key=lambda problem: problem.line or 0)
            raise SpecError(f"the job file has {noun}:", ordered, self.document.file)

    def _parse(self, data: Mapping[str, Any]) -> JobSpec | None:
        try:
            return JobSpec.model_validate(data)
        except ValidationError as error:
            self._validation(error, (), JobSpec)
            return None

    def _validation(
        self, error: ValidationError, prefix: tuple[str | int, ...], model: type[BaseModel]
    ) -> None:
        items = error.errors(include_url=False)
        for item in items:
            loc = item["loc"]
            if item["type"] == "too_short" and any(
                other["loc"][: len(loc)] == loc for other in items if other is not item
            ):
                continue  # a list counts as short only because its broken entries were left out
            path = (*prefix, *loc)
            message, value = str(item["msg"]).removeprefix("Value error, "), item.get("input")
            remedy = ""
            if item["type"] == "extra_forbidden":
                message, value = "unknown key", None
                remedy = near_misses(str(loc[-1]), _keys(model, loc[:-1]))
            elif item["type"] == "missing":
                message, value = "required key is missing", None
            elif item["type"] == "string_pattern_mismatch":
                message = "write letters, digits, spaces and . _ - only, a letter or a digit first"
            elif item["type"] == "model_type":
                message = "a map is wanted"
                if isinstance(value, str) and item.get("ctx", {}).get("class_name") in _NAMED:
                    remedy = f'Write `{{name: "{value}"}}`.'
            elif isinstance(value, dict | list):
                value = None
            if item["type"] != "value_error":
                for told, said in _PLAINER.items():
                    message = message.replace(told, said)
            self.problem(path, message[:1].lower() + message[1:], remedy, value)

    def _plugins_of_broken(self, data: Mapping[str, Any]) -> None:
        """Report what is wrong with plugins too when the file's own structure is broken."""
        self._loose(Task, data.get("task"), ("task",))
        self._loose(SearchSpace, data.get("space"), ("space",))
        for index, objective in enumerate(_items(data.get("objectives"))):
            self._loose(Objective, objective, ("objectives", index), ObjectiveSpec)
        for index, stage in enumerate(_items(data.get("stages"))):
            if isinstance(stage, dict):
                entries = cast("dict[str, Any]", stage)
                self._loose(Program, entries.get("program"), ("stages", index, "program"))
                self._loose(Sampler, entries.get("sampler"), ("stages", index, "sampler"))
                self._loose(SearchSpace, entries.get("space"), ("stages", index, "space"))

    def _loose(
        self,
        base: type[Plugin],
        data: Any,
        path: tuple[str | int, ...],
        model: type[PluginSpec] = PluginSpec,
    ) -> None:
        try:
            spec = model.model_validate(data)
        except ValidationError:
            return  # already reported with the file's structure
        self._plugin(base, spec, path)

    def _plugin(self, base: type[PluginT], spec: PluginSpec, path: tuple[str | int, ...]) -> PluginT | None:
        try:
            cls = self.registry.get(base.kind, spec.name).plugin
        except UnknownPluginError as error:
            self.problem((*path, "name"), str(error).rstrip("."), "")
            return None
        except PluginError as error:
            self.problem((*path, "name"), str(error).rstrip("."), "")
            return None
        try:
            options = cls.Options.model_validate(spec.options, context={"registry": self.registry})
        except ValidationError as error:
            self._validation(error, path, cls.Options)
            return None
        return cast(PluginT, cls(options))

    def _goals(self, spec: JobSpec, objectives: Sequence[Objective | None]) -> list[Goal]:
        goals: list[Goal] = []
        for index, (wanted, objective) in enumerate(zip(spec.objectives, objectives, strict=True)):
            if objective is None:
                continue
            label = wanted.label or (
                objective.metric if isinstance(objective, ReportedObjective) else wanted.name
            )
            direction = wanted.direction or getattr(objective, "direction", None)
            if direction is None:
                self.problem(
                    ("objectives", index),
                    f"{label!r} has no sense of its own",
                    "Give `direction: maximize` or minimize.",
                )
                direction = "maximize"
            if any(goal.name == label for goal in goals):
                self.problem(
                    ("objectives", index),
                    f"a second objective called {label!r}",
                    "Give it a `label`.",
                )
            goals.append(
                Goal(
                    label,
                    None if direction == "none" else direction,
                    wanted.min,
                    wanted.max,
                    wanted.reference,
                )
            )
        return goals

    def _combined(self, spec: JobSpec, goals: Sequence[Goal], objectives: Sequence[Objective | None]) -> None:
        """Check combined objectives against their parts, and that whatever isn't optimised has a use."""
        if len(goals) < len(objectives):
            return  # a broken one is reported, and may be a part
        kinds = {goal.name: objective for goal, objective in zip(goals, objectives, strict=True)}
        used: set[str] = set()
        for index, (goal, objective) in enumerate(zip(goals, objectives, strict=True)):
            if not isinstance(objective, CombinedObjective):
                continue
            path = ("objectives", index)
            simple = [name for name, kind in kinds.items() if not isinstance(kind, CombinedObjective)]
            strangers = [part for part in objective.parts if part not in simple]
            used |= set(objective.parts)
            for part in strangers:
                self.problem(
                    path,
                    f"{goal.name!r} combines {part!r}, which is no objective that is measured",
                    near_misses(part, simple),
                )
            if not strangers:
                try:
                    objective.check(goals)
                except OrchestrateError as error:
                    self.problem(path, str(error).rstrip("."))
        for index, (wanted, goal) in enumerate(zip(spec.objectives, goals, strict=True)):
            if (
                wanted.direction == "none"
                and (wanted.min, wanted.max) == (None, None)
                and goal.name not in used
            ):
                self.problem(
                    ("objectives", index),
                    "direction none means a mere bound or a part of a combined objective: give `min` or "
                    "`max`, or combine it",
                )

    def _stage(
        self,
        spec: JobSpec,
        index: int,
        job_space: SearchSpace | None,
        goals: Sequence[Goal],
        objectives: Sequence[Objective | None],
        task: Task | None,
    ) -> Stage | None:
        stage, path = spec.stages[index], ("stages", index)
        program = self._plugin(Program, stage.program, (*path, "program"))
        space = self._plugin(SearchSpace, stage.space, (*path, "space")) if stage.space else job_space
        sampler = self._plugin(Sampler, stage.sampler, (*path, "sampler")) if stage.sampler else None
        fingerprint = (
            self._plugin(Fingerprint, _bare(stage.recall), (*path, "recall")) if stage.recall else None
        )
        strategy = (
            self._plugin(ParallelStrategy, stage.workers.strategy, (*path, "workers", "strategy"))
            if stage.workers
            else None
        )
        searches = stage.sampler is not None or stage.take is not None
        if searches and space is None and spec.space is None and stage.space is None:
            self.problem(path, "a stage that searches needs a space", "Give the job or the stage a `space`.")
        if searches and not any(wanted.direction != "none" for wanted in spec.objectives):
            self.problem(
                path,
                "a stage that searches needs an objective to optimise",
                "Give the job `objectives`.",
            )
        if program is None:
            return None
        return Stage(
            index=index,
            spec=stage,
            job_seed=spec.seed,
            program=program,
            space=space or NoSpace(),
            sampler=sampler,
            fingerprint=fingerprint,
            strategy=strategy,
            goals=tuple(goals) if searches else (),
            objectives=tuple(found for found in objectives if found is not None) if searches else (),
            resources=stage.resources or spec.resources,
            retry=stage.retry or spec.retry,
            task=task,
        )

    def _names(self, spec: JobSpec) -> None:
        earlier: list[str] = []
        for index, stage in enumerate(spec.stages):
            path = ("stages", index)
            if stage.name in earlier:
                self.problem(
                    (*path, "name"),
                    f"a second stage called {stage.name!r}",
                    "Give each its own name.",
                )
            if stage.take and stage.take.from_ not in earlier:
                self._no_stage((*path, "take", "from"), stage.take.from_, earlier)
            for key in _references(self.registry, stage.program):
                name = stage.program.options.get(key)
                if isinstance(name, str) and name not in earlier:
                    self._no_stage((*path, "program", key), name, earlier)
            earlier.append(stage.name)

    def _no_stage(self, path: Sequence[str | int], name: str, earlier: Sequence[str]) -> None:
        self.problem(path, f"no earlier stage is called {name!r}", near_misses(name, earlier))


def _bare(spec: PluginSpec) -> PluginSpec:
    """The plugin and its own options, without the section's keys."""
    return PluginSpec.model_validate({"name": spec.name, **spec.options})


def _items(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _references(registry: Registry, spec: PluginSpec) -> list[str]:
    """The program's options that name an earlier stage."""
    try:
        model: type[PluginOptions] = registry.get("program", spec.name).plugin.Options
    except PluginError:
        return []
    return [
        key
        for key, field in model.model_fields.items()
        if any(isinstance(mark, StageReference) for mark in field.metadata) or _names_stage(field.annotation)
    ]


def _names_stage(annotation: Any) -> bool:
    """Whether `StageName` stands somewhere inside, as in `StageName | None`."""
    marks = getattr(annotation, "__metadata__", ())
    return any(isinstance(mark, StageReference) for mark in marks) or any(
        _names_stage(part) for part in get_args(annotation)
    )


def _keys(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """Names of the keys allowed at `loc` inside `model`."""
    current: type[BaseModel] | None = model
    in_map = False
    for part in loc:
        if isinstance(part, int):
            continue
        if in_map:  # this part is the user's own key
            in_map = False
            continue
        field = current.model_fields.get(part) if current else None
        current = _model_in(field.annotation) if field else None
        in_map = field is not None and get_origin(field.annotation) is dict
    if current is None:
        return []
    return [field.alias or name for name, field in current.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
