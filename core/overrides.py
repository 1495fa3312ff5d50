"""`--set path=value`: changes to a job file's data."""

from __future__ import annotations

from typing import Any, cast

from .errors import SpecError, near_misses
from .yamlfile import Document, read


def apply_override(document: Document, override: str) -> None:
    """Apply one `path=value`; list entries are named by index or by their `name`."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise SpecError(f"--set {override}: write it as path=value, like stages.0.trials=50")
    value = read(text).data if text.strip() else None
    *parents, last = path.split(".")
    here: Any = document.data
    for part in parents:
        here = _child(here, part, override)
    if isinstance(here, dict):
        cast("dict[str, Any]", here)[last] = value
    elif isinstance(here, list):
        items = cast("list[Any]", here)
        items[_index(items, last, override)] = value
    else:
        raise SpecError(f"--set {override}: {'.'.join(parents)!r} is neither a map nor a list")


def _child(here: Any, part: str, override: str) -> Any:
    if isinstance(here, dict):
        return cast("dict[str, Any]", here).setdefault(part, {})
    if isinstance(here, list):
        items = cast("list[Any]", here)
        return items[_index(items, part, override)]
    raise SpecError(f"--set {override}: there is no {part!r} to set something in")


def _index(items: list[Any], part: str, override: str) -> int:
    if part.isdigit() and int(part) < len(items):
        return int(part)
    names = [cast("dict[str, Any]", item).get("name") if isinstance(item, dict) else None for item in items]
    if part in names:
        return names.index(part)
    known = [str(name) for name in names if name] or [str(index) for index in range(len(items))]
    raise SpecError(f"--set {override}: no entry {part!r}. {near_misses(part, known)}")
