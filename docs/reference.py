"""Tables of the documentation that are made from the code when it is built, so that they can't go stale.

A page holds a marker such as `<!-- code: keys StageSpec -->`, and `expand` puts the table in its place.
Headings within are of the third level.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, get_args

from pydantic import BaseModel

from orchestrate.core import errors, spec
from orchestrate.core.plugin import Plugin
from orchestrate.core.registry import BASES, Registered, Registry
from orchestrate.storage import models

MARKER = re.compile(r"^<!-- code: (?P<what>[a-z]+) ?(?P<which>[\w -]*?) -->$", re.MULTILINE)
BUILT_IN = "orchestrate-automl"

Json: TypeAlias = Mapping[str, Any]

DURATION = "seconds, or text such as `90s`, `10m`, `1.5h`, `2d`"
PLUGIN = "[plugin](#naming-a-plugin)"
PARTS = {
    "PluginSpec": PLUGIN,
    "ObjectiveSpec": "[objective](#objectives)",
    "StageSpec": "[stage](#stages)",
    "ResourceSpec": "[resources](#resources)",
    "RetrySpec": "[retry](#retry)",
    "LineageSpec": "[lineage](#lineage)",
    "TakeSpec": "[take](#take)",
    "RecallSpec": "[recall](#recall)",
    "WorkerSpec": "[workers](#workers)",
    "EarlyStoppingSpec": "[early stopping](#early-stopping)",
}
"""The job file's sections, and where the page explains them."""


@dataclass(frozen=True)
class Row:
    """A key of a job file or an option of a plugin."""

    key: str
    type: str
    default: str
    meaning: str


def expand(markdown: str, registry: Registry) -> str:
    """Replace every marker by what it stands for.

    Raises:
        KeyError: a marker that nothing is known of.
    """
    makers: Mapping[str, Callable[[str], str]] = {
        "keys": lambda name: keys(getattr(spec, name)),
        "plugins": lambda kind: plugins(registry, kind),
        "schedules": lambda _: schedules(registry),
        "errors": lambda _: error_table(),
        "tables": lambda _: catalog_tables(),
    }
    return MARKER.sub(lambda found: makers[found["what"]](found["which"]), markdown)


# Options and keys ---------------------------------------------------------------------------------


def keys(model: type[BaseModel]) -> str:
    """A table of a model's keys."""
    return _table("Key", list(rows(model)))


def rows(model: type[BaseModel]) -> Iterator[Row]:
    """Key, type, default and meaning of each field, those of nested option models included.

    Raises:
        KeyError: a key without a description.
    """
    schema = model.model_json_schema(by_alias=True)
    durations = {
        name for name, field in model.model_fields.items() if spec.Duration in get_args(field.annotation)
    }
    for row in _rows(schema, schema.get("$defs", {}), model.__name__):
        yield replace(row, type=DURATION) if row.key in durations else row


def _rows(schema: Json, definitions: Json, label: str, prefix: str = "") -> Iterator[Row]:
    for key, field in schema.get("properties", {}).items():
        meaning = field.get("description")
        if not meaning:
            raise KeyError(f"{label}.{key} has no description: give its Field one")
        required = key in schema.get("required", [])
        default = "required" if required else _default(field.get("default"))
        yield Row(prefix + key, _type(field, definitions), default, meaning)
        name, step = _nested(field)
        if name and name not in PARTS and "properties" in definitions[name]:
            yield from _rows(definitions[name], definitions, name, f"{prefix}{key}.{step}")


def _nested(field: Json) -> tuple[str, str]:
    """Name of the model that a field holds, and what stands in its path for a map's keys."""
    if "$ref" in field:
        return field["$ref"].rpartition("/")[2], ""
    inner = field.get("additionalProperties")
    if isinstance(inner, dict) and "$ref" in inner:
        return str(inner["$ref"]).rpartition("/")[2], "NAME."
    return "", ""


def _table(first: str, entries: Sequence[Row]) -> str:
    lines = [f"| {first} | Type | Default | Meaning |", "| --- | --- | --- | --- |"]
    for row in entries:
        cells = (f"`{row.key}`", row.type, row.default, row.meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _default(value: Any) -> str:
    if value is None or (isinstance(value, dict | list) and not value):
        return "unset"
    if isinstance(value, dict):
        return "see there"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(field: Json, definitions: Json) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        if name in PARTS:
            return PARTS[name]
        definition = definitions[name]
        return "map" if "properties" in definition else _type(definition, definitions)
    if "anyOf" in field:
        parts = [_type(part, definitions) for part in field["anyOf"] if part.get("type") != "null"]
        if {"text", "true or false", "number"} <= set(parts):
            return "plain value"
        return " or ".join(dict.fromkeys(parts))
    options = field.get("enum") or ([field["const"]] if "const" in field else [])
    if options:
        return " or ".join(f"`{option}`" for option in options)
    match field.get("type"):
        case "array":
            inner = field.get("items") or (field.get("prefixItems") or [{}])[0]
            return f"list of {_type(inner, definitions)}"
        case "object":
            inner = field.get("additionalProperties")
            return f"map of {_type(inner, definitions)}" if isinstance(inner, dict) else "map"
        case None:
            return "any"
        case kind:
            word = {"boolean": "true or false", "integer": "whole number", "string": "text"}.get(kind, kind)
            return word + _bounds(field)


def _bounds(field: Json) -> str:
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {field[word]:g}" for word, sign in words.items() if word in field]
    return f" {', '.join(limits)}" if limits else ""


# Plugins ------------------------------------------------------------------------------------------


def built_in(registry: Registry) -> Iterator[Registered]:
    """The plugins that come with Orchestrate."""
    return (entry for entry in registry if entry.source.distribution == BUILT_IN)


def plugins(registry: Registry, kind: str) -> str:
    """A section for each built-in plugin of a kind: what its docstring says, and its options."""
    if kind not in BASES:
        raise KeyError(f"no kind of plugin is called {kind!r}")
    return "\n\n".join(
        _plugin(entry.plugin) for entry in built_in(registry) if str(entry.plugin.kind) == kind
    )


def anchor(plugin: type[Plugin]) -> str:
    """The link target of a plugin's section."""
    return f"{plugin.kind.replace(' ', '-')}-{plugin.name}"


def _plugin(plugin: type[Plugin]) -> str:
    text = (inspect.getdoc(plugin) or "").strip()
    options = list(rows(plugin.Options))
    table = _table("Option", options) if options else "No options."
    return f"### `{plugin.name}` {{ #{anchor(plugin)} }}\n\n{text}\n\n{table}"


def schedules(registry: Registry) -> str:
    """A table of the learning-rate schedules."""
    lines = ["| Schedule | Options, with defaults | Meaning |", "| --- | --- | --- |"]
    for name, factory in registry.schedules.items():
        parameters = list(inspect.signature(factory).parameters.values())[1:]
        shown = ", ".join(f"`{parameter.name}: {_plain(parameter.default)}`" for parameter in parameters)
        lines.append(f"| `{name}` | {shown} | {_first(factory)} |")
    return "\n".join(lines)


def _plain(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(list(value))


# Errors and tables --------------------------------------------------------------------------------


def error_table() -> str:
    """A table of the error classes."""
    lines = ["| Error | Also a | Meaning, and what to do |", "| --- | --- | --- |"]
    for error in error_classes():
        kinds = ", ".join(f"`{base.__name__}`" for base in error.__bases__)
        lines.append(f"| `{error.__name__}` | {kinds} | {_first(error)} |")
    return "\n".join(lines)


def error_classes() -> list[type[BaseException]]:
    """Every error class of `core.errors`, in the order of the file."""
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, BaseException)
    ]


def catalog_tables() -> str:
    """A table of the catalog's tables."""
    described = {str(mapper.local_table): _first(mapper.class_) for mapper in models.Base.registry.mappers}
    lines = ["| Table | One row is |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| `{name}` | {described[name]} |" for name in sorted(described))])


def _first(target: object) -> str:
    return " ".join((inspect.getdoc(target) or "").partition("\n\n")[0].split())
