"""Lets mkdocstrings find `orchestrate.…`: it reads source by path, and the folders' names lack the
namespace. It gets a folder of links instead.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority

FOLDERS = ("cli", "core", "plugins", "scheduler", "storage")

_links = tempfile.TemporaryDirectory(prefix="orchestrate-docs-")


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


def on_shutdown() -> None:
    _links.cleanup()
