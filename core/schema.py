"""The JSON Schema of the job file, with the options of every installed plugin: for editors.

It is a little stricter than reading is (`trials: "50"` passes there), and knows nothing of what only the
whole job shows, such as whether a program fits a space.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema

from .plugin import Kind
from .registry import BASES, PREFIX, Registered, Registry
from .spec import JobSpec, ObjectiveSpec, RecallSpec

Json = dict[str, Any]

PLACES: Mapping[tuple[str, str], Kind] = {
    ("JobSpec", "task"): "task",
    ("JobSpec", "space"): "space",
    ("StageSpec", "space"): "space",
    ("StageSpec", "program"): "program",
    ("StageSpec", "sampler"): "sampler",
    ("WorkerSpec", "strategy"): "parallel strategy",
}
"""Which section's key holds a plugin of which kind. Objectives and recall have keys of their own, too."""


def job_schema(registry: Registry) -> Json:
    """Make the JSON Schema (draft 2020-12) of a job file that uses the registry's plugins."""
    entries = list(registry)
    models: list[type[Any]] = list(dict.fromkeys([JobSpec, *(entry.plugin.Options for entry in entries)]))
    refs, whole = models_json_schema([(model, "validation") for model in models], schema_generator=_Lenient)
    definitions: Json = whole["$defs"]
    shapes = {model: definitions[_name(ref)] for (model, _), ref in refs.items()}
    base = shapes[JobSpec]
    sections: Json = {**definitions, "JobSpec": base}
    objective, recall = sections[ObjectiveSpec.__name__], sections[RecallSpec.__name__]
    kinds: Json = {
        kind: _kind(kind, [entry for entry in entries if entry.plugin.kind == kind], shapes) for kind in BASES
    }
    kinds["objective"] = _with_keys(kinds["objective"], objective)
    kinds["objective"]["anyOf"].append(_metric(objective))
    del kinds["objective"]["required"]  # each alternative has its own
    kinds["fingerprint"] = _with_keys(kinds["fingerprint"], recall)
    for (section, key), kind in PLACES.items():
        _point(sections[section]["properties"], key, kind)
    stage = sections["StageSpec"]["properties"]
    _point(stage, "recall", "fingerprint")
    base["properties"]["objectives"]["items"] = {"$ref": f"#/$defs/{kind_key('objective')}"}
    unused = {_name(ref) for ref in refs.values()} | {"PluginSpec", "ObjectiveSpec", "RecallSpec"}
    kept = {name: shape for name, shape in definitions.items() if name not in unused}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **base,
        "title": "Orchestrate job",
        "$defs": {**kept, **{kind_key(kind): shape for kind, shape in kinds.items()}},
    }


class _Lenient(GenerateJsonSchema):
    """Lets an option of a type that JSON Schema has no word for be anything."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}


def kind_key(kind: str) -> str:
    """Name of a kind's definition in the schema."""
    return f"plugin-{kind.replace(' ', '-')}"


def _name(ref: Mapping[str, Any]) -> str:
    return str(ref["$ref"]).rpartition("/")[2]


def _kind(kind: Kind, entries: list[Registered], shapes: Mapping[Any, Json]) -> Json:
    """A plugin of one kind: by name, with its own options; or a `python:` reference, with any."""
    return {
        "title": kind,
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "description": f"Name of the {kind}, or python:module:Attribute."}
        },
        "anyOf": [
            *(_named(entry, shapes[entry.plugin.Options]) for entry in entries),
            {
                "title": "your own",
                "description": "A class or function of your own, as python:package.module:Attribute.",
                "properties": {"name": {"pattern": f"^{PREFIX}[^:]+:[^:]+$"}},
                "required": ["name"],
            },
        ],
    }


def _named(entry: Registered, options: Json) -> Json:
    plugin = entry.plugin
    return {
        "title": plugin.name,
        "description": plugin.summary,
        "type": "object",
        "properties": {"name": {"const": plugin.name}, **options.get("properties", {})},
        "required": ["name", *options.get("required", ())],
        "additionalProperties": options.get("additionalProperties", False),
    }


def _with_keys(kind: Json, section: Json) -> Json:
    """Allow the section's own keys beside those of the plugin."""
    own = {key: shape for key, shape in section["properties"].items() if key != "name"}
    plugins = [{**plugin, "properties": {**plugin["properties"], **own}} for plugin in kind["anyOf"]]
    return {**kind, "anyOf": plugins}


def _metric(section: Json) -> Json:
    """`{metric: f1}`, short for the plugin `metric`."""
    own = {key: shape for key, shape in section["properties"].items() if key != "name"}
    metric = {"type": "string", "description": "A metric by the name that the program reports it under."}
    return {
        "title": "a metric",
        "type": "object",
        "properties": {"metric": metric, **own},
        "required": ["metric"],
        "additionalProperties": False,
    }


def _point(properties: Json, key: str, kind: Kind) -> None:
    """Let `key` hold a plugin of `kind`; it stays optional where it was."""
    before = properties[key]
    reference: Json = {"$ref": f"#/$defs/{kind_key(kind)}"}
    described = {"description": before["description"]} if "description" in before else {}
    if "anyOf" in before:
        properties[key] = {"anyOf": [reference, {"type": "null"}], "default": None, **described}
    else:
        properties[key] = {**reference, **described}
