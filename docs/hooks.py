"""Ties the documentation to the code: generated tables, and a way for mkdocstrings to find
`orchestrate.…`. It reads source by path, and the folders' names lack the namespace, so it gets a
folder of links instead.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from reference import expand  # MkDocs puts this file's folder on the path while it loads it

from orchestrate.core.registry import Registry

FOLDERS = ("cli", "core", "plugins", "scheduler", "storage")

_links = tempfile.TemporaryDirectory(prefix="orchestrate-docs-")
_registry = Registry.discover()


@event_priority(100)  # before mkdocstrings reads its own configuration
def on_config(config: Any) -> None:
    root = Path(config.config_file_path).parent
    namespace = Path(_links.name, "orchestrate")
    namespace.mkdir(exist_ok=True)
    for folder in FOLDERS:
        if not (namespace / folder).is_symlink():
            (namespace / folder).symlink_to(root / folder)
    python = config.plugins["mkdocstrings"].config["handlers"]["python"]
    python["paths"] = [_links.name]


def on_page_markdown(markdown: str, **_context: Any) -> str:
    return expand(markdown, _registry)


def on_shutdown() -> None:
    _links.cleanup()
