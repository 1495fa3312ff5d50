"""Numbers, times and candidates as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any


def number(value: object) -> str:
    """Four significant digits; large ones with k, M, G, T: 0.9533, 12, 15.6 M."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    size = abs(value)
    for unit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= unit:
            scaled = value / (1e3 if letter == "k" else unit)
            return f"{scaled:.4g} {letter}"
    return f"{value:.4g}"


def seconds(value: float | None) -> str:
    """A duration: 85 ms, 3.2 s, 4:05, 1:02:03, 2 d 3 h."""
    if value is None:
        return "unknown"
    if value < 0.9995:  # what rounds to a whole second is one
        return f"{value * 1000:.0f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def when(time: datetime | None) -> str:
    """A time on this machine's clock, to the second."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S") if time else "-"


def between(start: datetime | None, end: datetime | None) -> float | None:
    """Seconds from `start` to `end`, or to now."""
    return ((end or datetime.now(UTC)) - start).total_seconds() if start else None


def plural(count: int, noun: str) -> str:
    """`1 trial`, `3 trials`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def pairs(values: Mapping[str, Any]) -> str:
    """`accuracy 0.95, flops 15.6 M`."""
    return ", ".join(f"{name} {number(value)}" for name, value in values.items())


def choices(candidate: Mapping[str, Any], only: Iterable[str] | None = None) -> str:
    """`width=32 op=conv3`: the named choices of a candidate, or all."""
    names = candidate if only is None else [name for name in only if name in candidate]
    return " ".join(f"{name}={number(candidate[name])}" for name in names) or "-"


def differing(candidates: Sequence[Mapping[str, Any]]) -> list[str]:
    """The choices in which the candidates differ, which tell them apart; all of them for a single one."""
    names = list(dict.fromkeys(name for candidate in candidates for name in candidate))
    if len(candidates) < 2:
        return names
    return [name for name in names if len({repr(candidate.get(name)) for candidate in candidates}) > 1]
