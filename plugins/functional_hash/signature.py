"""From the numbers that a candidate emits to its key.

Numbers are squashed (linear near zero, logarithmic far away, so that the quantum is absolute for small
numbers and relative for large ones), rounded to a grid, and digested in order. A second grid, shifted
by half a quantum, gives a second name: two equal functions that rounding parts on one grid meet on the
other, but for a chance of the square of a small one. NaN and infinities are symbols of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from ...core import canonical_json
from .numbers import Floats

NAN, INFINITE, MINUS_INFINITE = 2**62, 2**62 + 1, -(2**62)


@dataclass(frozen=True)
class Signature:
    """What a candidate emitted: `values` in a fixed order, what each is, and its degenerate class."""

    values: tuple[float, ...]
    names: tuple[str, ...]
    token: str | None = None
    """"nan", "inf" or "constant", where the candidate is one of those huge classes."""
    noise: float = 0.0
    """Largest difference between two ways to compute the same values, in squashed units."""

    @property
    def finite(self) -> tuple[float, ...]:
        """The values, with 0 in place of what is none."""
        return tuple(value if math.isfinite(value) else 0.0 for value in self.values)


def squash(values: Floats) -> Floats:
    """Squash: a step of `q` is `q` near zero, and the share `q` of a large number."""
    return np.arcsinh(values)


def marks(values: Sequence[float] | Floats, quantum: float, shift: float = 0.0) -> bytes:
    """Round the values to a grid of `quantum`, shifted by `shift` quanta; as bytes, in order.

    The grid's cells are centred, so that 0 and -0 and noise around them share one.
    """
    numbers = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(numbers)
    cells = np.rint(squash(np.where(finite, numbers, 0.0)) / quantum + shift).astype(np.int64)
    if not finite.all():
        cells[np.isnan(numbers)] = NAN
        cells[np.isposinf(numbers)] = INFINITE
        cells[np.isneginf(numbers)] = MINUS_INFINITE
    return cells.astype("<i8").tobytes()


def keyed(context: Any, values: Sequence[float], quantum: float) -> tuple[str, str]:
    """Digest context and values on both grids: 128-bit BLAKE2b, 32 hex digits each.

    `context` is JSON data: all that must be equal besides. Lengths are part of it.
    """
    head = canonical_json([context, len(values)]).encode()
    prefix = len(head).to_bytes(8, "little") + head
    first = blake2b(prefix + b"0" + marks(values, quantum), digest_size=16)
    second = blake2b(prefix + b"1" + marks(values, quantum, 0.5), digest_size=16)
    return first.hexdigest(), second.hexdigest()


def token_of(values: Sequence[float]) -> str | None:
    """Name the degenerate class of numbers that aren't all finite."""
    if any(math.isnan(value) for value in values):
        return "nan"
    return "inf" if any(math.isinf(value) for value in values) else None


def smallest(signatures: Sequence[Floats], tolerance: float) -> int:
    """Index of the lexicographically smallest, where numbers closer than `tolerance` count as equal."""
    left = list(range(len(signatures)))
    for position in range(len(signatures[0])):
        least = min(float(signatures[index][position]) for index in left)
        left = [index for index in left if not float(signatures[index][position]) > least + tolerance]
        if len(left) == 1:
            break
    return left[0]
