"""How numbers, times and names are written for people: in Markdown, plots and graphs alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from ...core.candidate import canonical_json


def number(value: float) -> str:
    """Four significant digits, in the shorter of the usual forms: 0.9312, 1.234e+07, 42."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    """Like 0.8 s, 42 s, 3 min 5 s, 2 h 7 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: int) -> str:
    """Like 12 B, 3.4 kB, 1.2 MB."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def moment(at: datetime | None) -> str:
    """A time, to the second, in UTC."""
    return at.strftime("%Y-%m-%d %H:%M:%S UTC") if at else "not yet"


def between(start: datetime | None, end: datetime | None) -> float | None:
    """Seconds between two times, where both are known."""
    return (end - start).total_seconds() if start and end else None


def cell(value: object) -> str:
    """Any text inside one cell of a Markdown table."""
    return " ".join(str(value).split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def code(value: object) -> str:
    """Text in Markdown's code form, whatever it holds."""
    plain = " ".join(str(value).split()).replace("`", "'").replace("|", "¦")
    return f"`{plain}`" if plain else ""


def shortened(text: str, limit: int) -> str:
    """`text` on one line, cut to `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table as lines, columns of numbers flush right."""
    body = [[str(value) for value in row] for row in rows]
    right = [bool(body) and all(_numeric(row[index]) for row in body) for index in range(len(columns))]
    rule = ["---:" if flush else "---" for flush in right]
    return [f"| {' | '.join(row)} |" for row in ([cell(column) for column in columns], rule, *body)]


def candidate(choices: Mapping[str, object], limit: int = 120) -> str:
    """A candidate on one line: its choices where they fit, else their beginning."""
    parts = [
        f"{name}={number(value) if isinstance(value, float) else _plain(value)}"
        for name, value in choices.items()
    ]
    return shortened(", ".join(parts), limit) or "(no choices)"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else canonical_json(value)


def _numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == ""
    return True
