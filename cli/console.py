"""Where output goes: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

PLAIN_WIDTH = 160

STYLES = {
    "finished": "green",
    "running": "cyan",
    "recalled": "magenta",
    "failed": "red",
    "lost": "red",
    "infeasible": "yellow",
    "pruned": "yellow",
    "cancelled": "yellow",
    "interrupted": "yellow",
    "paused": "yellow",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
}


def console(*, stderr: bool = False) -> Console:
    """Rich's console; without a terminal: no colours, and room for whole lines."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = max(made.width, PLAIN_WIDTH)
    return made


def table(*columns: str, right: Sequence[str] = (), title: str | None = None) -> Table:
    """A light table: a line below the heading, no frame. `right` names the columns of numbers."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(
            column, justify="right" if column in right else "left", overflow="fold", header_style="bold"
        )
    return made


def styled(state: str) -> Text:
    """A state in its colour."""
    from rich.text import Text

    return Text(state, style=STYLES.get(state, ""))


def print_json(data: Any) -> None:
    """Print JSON to stdout."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False, default=_plain) + "\n")


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
