"""Numbers that depend on their key alone: on no library's distributions, process or thread.

Philox is counter-based, and numpy promises its raw stream for ever; only shifts and products follow,
so the numbers are the same, bit for bit, on every machine.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROOT3 = 3.0**0.5
PROJECTIONS = 4
FEW = 1024  # numbers of a draw that is worth keeping: 16 MiB of them at most
ROW = 4096  # longer vectors are projected row by row


def seed_of(*key: object) -> int:
    """Digest a key (of strings and integers) to 128 bits."""
    return int.from_bytes(blake2b(repr(key).encode(), digest_size=16).digest(), "little")


def uniforms(count: int, seed: int) -> Floats:
    """Draw `count` numbers from [0, 1). Don't write to them: equal units of many candidates share them."""
    return _remembered(count, seed) if count <= FEW else _drawn(count, seed)


def _drawn(count: int, seed: int) -> Floats:
    key = np.array([seed & (2**64 - 1), seed >> 64], dtype=np.uint64)  # as an integer it takes twice the time
    raw = np.random.Philox(key=key).random_raw(count)
    drawn = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
    drawn.flags.writeable = False
    return drawn


_remembered = lru_cache(maxsize=2048)(_drawn)


def centred(count: int, seed: int) -> Floats:
    """Draw `count` uniform numbers of mean 0 and variance 1."""
    return (uniforms(count, seed) * 2.0 - 1.0) * ROOT3


def normals(count: int, seed: int) -> Floats:
    """Draw `count` normal numbers of mean 0 and variance 1 (Box and Muller, 1958)."""
    half = -(-count // 2)
    drawn = uniforms(2 * half, seed)
    radius = np.sqrt(-2.0 * np.log1p(-drawn[:half]))
    angle = 2.0 * np.pi * drawn[half:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


@lru_cache(maxsize=64)
def frozen(count: int, *key: object) -> Floats:
    """Numbers of mean 0 and variance 1 that are asked for again and again: probe data. Don't write to it."""
    drawn = centred(count, seed_of(*key))
    drawn.flags.writeable = False
    return drawn


@lru_cache(maxsize=256)
def directions(length: int, count: int) -> Floats:
    """Fixed random directions (length, count), so scaled that unit variance is kept."""
    flat = centred(length * count, seed_of("directions", length, count))
    return flat.reshape(length, count) / max(1.0, length) ** 0.5


def project(numbers: Floats) -> Floats:
    """Project a long vector on `PROJECTIONS` fixed random directions, keeping the scale of its entries."""
    with np.errstate(invalid="ignore", over="ignore"):
        if len(numbers) <= ROW:
            return numbers @ directions(len(numbers), PROJECTIONS)
        rows = -(-len(numbers) // ROW)
        padded = np.zeros(rows * ROW)
        padded[: len(numbers)] = numbers
        partial = padded.reshape(rows, ROW) @ directions(ROW, PROJECTIONS)
        return (partial * directions(rows, PROJECTIONS)).sum(axis=0)
