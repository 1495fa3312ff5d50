"""Says why two candidates have the same functional key, or where they part."""

from __future__ import annotations

import math

from .options import FunctionalHashOptions
from .probing import Outcome
from .signature import Signature, keyed

SHOWN = 5


def differences(first: Outcome, second: Outcome, options: FunctionalHashOptions) -> list[str]:
    """Say it line by line, the greatest difference first."""
    from .fingerprint import context

    lines: list[str] = []
    if first.adapter != second.adapter:
        return [f"functional: different, one is probed as {first.adapter}, the other as {second.adapter}"]
    for name in sorted(first.residual.keys() | second.residual.keys()):
        one, two = first.residual.get(name), second.residual.get(name)
        if one != two:
            lines.append(f"functional: different, {name} is {one!r} and {two!r}, which the probe can't show")
    if first.signature is None or second.signature is None:
        return [*lines, f"functional: no key, {first.token or 'fine'} and {second.token or 'fine'}"]
    lines += _values(first.signature, second.signature, first.quantum)
    if not lines:
        one = keyed(context(first, options), first.signature.values, first.quantum)
        two = keyed(context(second, options), second.signature.values, first.quantum)
        meet = [name for name, a, b in zip(("the grid", "the shifted grid"), one, two, strict=True) if a == b]
        most = max(map(_distance, first.signature.values, second.signature.values), default=0.0)
        lines.append(
            f"functional: equal on {' and '.join(meet) or 'neither grid, by rounding'}; the largest "
            f"difference of {len(first.signature.values)} outputs is {most:.1e}"
        )
    return lines


def _values(first: Signature, second: Signature, quantum: float) -> list[str]:
    if len(first.values) != len(second.values):
        return [f"functional: different, {len(first.values)} outputs and {len(second.values)}"]
    apart = [
        (_distance(one, two), name, one, two)
        for name, one, two in zip(first.names, first.values, second.values, strict=True)
        if not _distance(one, two) <= quantum * (1 + abs(two))
    ]
    apart.sort(key=lambda row: -row[0] if math.isfinite(row[0]) else -math.inf)
    lines = [
        f"functional: different, {name}: {one:.9g} and {two:.9g}, apart by {distance:.2e}"
        for distance, name, one, two in apart[:SHOWN]
    ]
    left = len(apart) - SHOWN
    return [*lines, f"functional: {left} more outputs differ"] if left > 0 else lines


def _distance(one: float, two: float) -> float:
    if one == two or (math.isnan(one) and math.isnan(two)):
        return 0.0
    return abs(one - two) if math.isfinite(one) and math.isfinite(two) else math.inf
