"""`orchestrate plugins`: what is installed, and what options each plugin takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from .. import options as opt
from ..completion import complete_kind, complete_plugin
from ..console import console, print_json, table
from ..front import Command, Group

if TYPE_CHECKING:
    from ...core.registry import Registered, Registry

EXAMPLES = """
    orchestrate plugins list
    orchestrate plugins list --kind sampler
    orchestrate plugins show nsga2
"""
LIST_EXAMPLES = """
    orchestrate plugins list
    orchestrate plugins list --kind sampler
    orchestrate plugins list --json | jq -r '.plugins[].name'
"""
SHOW_EXAMPLES = """
    orchestrate plugins show train
    orchestrate plugins show accuracy --kind objective
    orchestrate plugins show python:my_module:my_function --kind program
"""

app = typer.Typer(cls=Group, no_args_is_help=True, rich_markup_mode=None, epilog=EXAMPLES)

Kind = Annotated[
    str | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        help="Only plugins of this kind.",
        show_default=False,
        autocompletion=complete_kind,
    ),
]


@app.callback()
def plugins() -> None:
    """List the installed plugins, or show one with its options."""


@app.command("list", cls=Command, epilog=LIST_EXAMPLES)
def list_plugins(kind: Kind = None, as_json: opt.Json = False) -> None:
    """List the installed plugins, and those that failed to load."""
    from ...core.registry import Registry

    registry = Registry.discover()
    wanted = _kind(kind)
    found = [entry for entry in registry if wanted in (None, entry.plugin.kind)]
    if as_json:
        print_json(
            {
                "plugins": [_data(entry) for entry in found],
                "schedules": sorted(registry.schedules),
                "failures": [
                    {"source": str(failure.source), "cause": failure.cause} for failure in registry.failures
                ],
            }
        )
        return
    shown = table("kind", "name", "summary", "from")
    before = None
    for entry in found:
        plugin = entry.plugin
        shown.add_row(
            "" if plugin.kind == before else plugin.kind, plugin.name, plugin.summary, _distribution(entry)
        )
        before = plugin.kind
    out = console()
    out.print(shown)
    if wanted is None:
        out.print(f"Learning-rate schedules: {', '.join(sorted(registry.schedules))}")
    for failure in registry.failures:
        out.print(f"broken: {failure.source}: {failure.summary}", style="red")


@app.command("show", cls=Command, epilog=SHOW_EXAMPLES)
def show_plugin(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The plugin's name.", autocompletion=complete_plugin)
    ],
    kind: Kind = None,
    as_json: opt.Json = False,
) -> None:
    """Show a plugin: what it does, whose it is, and its options."""
    from ...core.registry import Registry, import_from_here

    import_from_here()
    entries = list(_named(Registry.discover(), name, _kind(kind)))
    if as_json:
        print_json([{**_data(entry), "options": list(options_of(entry))} for entry in entries])
        return
    for number, entry in enumerate(entries):
        if number:
            typer.echo()
        _print(entry)


def _kind(kind: str | None) -> str | None:
    from ...core.errors import SpecError, near_misses
    from ...core.registry import BASES

    if kind is not None and kind not in BASES:
        raise SpecError(f"--kind {kind}: there is no such kind of plugin. {near_misses(kind, BASES)}")
    return kind


def _named(registry: Registry, name: str, kind: str | None) -> Iterator[Registered]:
    from ...core.errors import UnknownPluginError, near_misses
    from ...core.registry import BASES, PREFIX

    if kind is not None:
        yield registry.get(cast(Any, kind), name)
        return
    if name.startswith(PREFIX):
        raise UnknownPluginError(f"{name}: say what it is to be, with --kind. {near_misses('', BASES)}")
    found = [entry for entry in registry if entry.plugin.name == name]
    if not found:
        names = {entry.plugin.name for entry in registry}
        raise UnknownPluginError(f"no plugin is called {name!r}. {near_misses(name, names)}")
    yield from found


def _data(entry: Registered) -> dict[str, Any]:
    return {
        "kind": entry.plugin.kind,
        "name": entry.plugin.name,
        "summary": entry.plugin.summary,
        "distribution": entry.source.distribution,
        "version": entry.source.version,
        "entry_point": entry.source.entry_point,
    }


def _distribution(entry: Registered) -> str:
    return f"{entry.source.distribution} {entry.source.version}"


def options_of(entry: Registered) -> Iterator[dict[str, Any]]:
    """The plugin's options, nested ones with dotted names: name, type, default, required, description."""
    yield from _fields(entry.plugin.Options, "")


def _fields(model: Any, prefix: str) -> Iterator[dict[str, Any]]:
    from pydantic import BaseModel

    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    for name, field in model.model_fields.items():
        shape = schema.get("properties", {}).get(field.alias or name, {})
        inner = field.annotation
        nested = isinstance(inner, type) and issubclass(inner, BaseModel)
        yield {
            "name": f"{prefix}{field.alias or name}",
            "type": "map" if nested else type_name(shape, definitions),
            "required": field.is_required(),
            "default": None if nested or field.is_required() else shape.get("default"),
            "description": field.description or "",
        }
        if nested:
            yield from _fields(inner, f"{prefix}{field.alias or name}.")


def type_name(shape: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A JSON Schema in a few words: `integer ≥ 1`, `sgd | adam`, `list of number`, `map`."""
    if "$ref" in shape:
        return type_name(definitions.get(shape["$ref"].rpartition("/")[2], {}), definitions)
    if "const" in shape:
        return str(shape["const"])
    if "enum" in shape:
        return " | ".join(str(value) for value in shape["enum"])
    for union in ("anyOf", "oneOf"):
        if union in shape:
            return " | ".join(dict.fromkeys(type_name(part, definitions) for part in shape[union]))
    kind = str(shape.get("type", "any"))
    if kind == "array":
        items: dict[str, Any] | None = shape.get("items")
        return f"list of {type_name(items, definitions)}" if items else "list"
    if kind == "object":
        return "map"
    bounds = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    return " ".join([kind, *(f"{sign} {shape[key]:g}" for key, sign in bounds if key in shape)])


def _print(entry: Registered) -> None:
    out = console()
    plugin = entry.plugin
    out.print(f"{plugin.kind} {plugin.name}", style="bold")
    out.print(plugin.summary)
    out.print(f"From {entry.source}, {entry.source.module}")
    rows = list(options_of(entry))
    if not rows:
        out.print("Takes no options.")
        return
    shown = table("option", "type", "default", "description")
    for row in rows:
        default = "required" if row["required"] else "" if row["type"] == "map" else _value(row["default"])
        shown.add_row(row["name"], row["type"], default, row["description"])
    out.print(shown)


def _value(value: object) -> str:
    if value is None:
        return "-"
    return str(value).lower() if isinstance(value, bool) else str(value)
