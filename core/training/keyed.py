"""Random numbers that depend on a key and a sample alone.

Whoever computes a sample's gradient, in whatever batch, draws the same numbers for it. Made of a
hash of (key, sample, draw), so there is no generator state to carry or to restore.
"""

from __future__ import annotations

import torch
from torch import Tensor

# SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014), as signed.
GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
MIX = ((30, 0xBF58476D1CE4E5B9 - (1 << 64)), (27, 0x94D049BB133111EB - (1 << 64)))


def uniforms(key: int, samples: Tensor, draws: int) -> Tensor:
    """Draw numbers from [0, 1), uniform and independent over samples and draws.

    Args:
        key: any int; another key gives other numbers (see `core.seeds.spawn`).
        samples: int64 (n,), the samples' indices.
        draws: numbers for each sample.

    Returns:
        float32 (n, draws), on the samples' device, bit for bit the same on every device.
    """
    counter = torch.arange(1, draws + 1, device=samples.device)
    start = _mix(samples * GOLDEN + _signed(key))
    bits = _mix(start[:, None] + counter * GOLDEN)
    return _shift(bits, 40).to(torch.float32) * 2.0**-24


def _mix(state: Tensor) -> Tensor:
    for distance, factor in MIX:
        state = (state ^ _shift(state, distance)) * factor
    return state ^ _shift(state, 31)


def _shift(state: Tensor, distance: int) -> Tensor:
    """Shift right, filling with zeros: torch's own shift of int64 copies the sign."""
    return (state >> distance) & ((1 << (64 - distance)) - 1)


def _signed(key: int) -> int:
    key &= (1 << 64) - 1
    return key - (1 << 64) if key >> 63 else key
