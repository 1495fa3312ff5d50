"""Contract of every plugin, whatever its kind: names, options, documentation, a cheap import."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from functools import cache
from typing import Any, cast

from ..plugin import Plugin, PluginOptions
from .contract import ContractError, only, require

_WITHOUT_TORCH = """
import importlib, sys
sys.modules["torch"] = None
importlib.import_module(sys.argv[1])
"""


def check_class(plugin: type[Plugin]) -> None:
    """Check what a plugin class must have before its kind matters.

    Rules: a `name` without blanks; a one-line `summary`; a docstring; an `Options` model derived from
    `PluginOptions` in which every field is described; an instance can be made when no option is
    required; the module imports without torch.

    Raises:
        ContractError: a rule is broken.
    """
    label = plugin.__qualname__
    name = getattr(plugin, "name", None)
    require(
        isinstance(name, str) and re.fullmatch(r"\S+", name),
        f"{label}.name must be a word, and is {name!r}",
        "Give the class `name: ClassVar[str]`, as it is to stand in a job file",
    )
    summary = getattr(plugin, "summary", None)
    require(
        isinstance(summary, str) and summary.strip() and "\n" not in summary,
        f"{label}.summary must be one line, and is {summary!r}",
        "Give the class `summary: ClassVar[str]`, as `orchestrate plugins` is to print it",
    )
    require(
        (plugin.__doc__ or "").strip(),
        f"{label} has no docstring",
        "Say in one what it does and which paper it comes from",
    )
    _check_options(plugin)
    _check_import(plugin.__module__)


def _check_options(plugin: type[Plugin]) -> None:
    label = plugin.__qualname__
    model = cast(Any, plugin.Options)
    if not (isinstance(model, type) and issubclass(model, PluginOptions)):
        raise ContractError(
            f"{label}.Options must derive from PluginOptions, and is {model!r}. "
            "Derive it, so that unknown keys are refused."
        )
    for field, info in model.model_fields.items():
        require(
            info.description,
            f"the option {field!r} of {label} has no description",
            f"Write `{field}: … = Field(…, description=…)`: the job file's schema prints it",
        )
    with only(
        f"{label}.Options must give a JSON Schema",
        "Use types that pydantic can describe: numbers, strings, lists, maps, other models",
    ):
        model.model_json_schema()
    if any(info.is_required() for info in model.model_fields.values()):
        return
    with only(
        f"{label} must be made without options, as none is required",
        "Mend the defaults, and leave work to the methods: a job file's check makes every plugin",
    ):
        plugin()


@cache
def _check_import(module: str) -> None:
    if module == "__main__" or importlib.util.find_spec("torch") is None:
        return
    result = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH, module],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    last = (result.stderr.strip().splitlines() or [""])[-1]
    require(
        result.returncode == 0,
        f"{module} must be importable without torch, but: {last}",
        "Import torch inside the functions that use it: job files are checked without it",
    )


def remade(plugin: Plugin) -> Plugin:
    """A second instance with the same options, as another process would make it."""
    return type(plugin)(plugin.options)
