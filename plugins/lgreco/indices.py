"""The places of k kept entries among n, in few bits: as a bitmap, or as Elias and Fano code sorted integers.

The latter takes about k (2 + log2(n / k)) bits; ceil(log2 n) bits an index are more wherever k > 4 or so.
Which form it is, and its length, follow from n and k alone, so messages of equal k have equal shapes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .packing import pack, packed_bytes, unpack


def index_bytes(n: int, k: int) -> int:
    """Bytes that k different indices below n take."""
    low = _low_bits(n, k)
    return 0 if k == n else packed_bytes(n, 1) if low is None else _bytes(n, k, low)


def encode_indices(indices: Tensor, n: int) -> Tensor:
    """Encode different indices below n, int64 (k,) in ascending order, as uint8 (index_bytes(n, k),)."""
    k = len(indices)
    if k == n:
        return torch.empty(0, dtype=torch.uint8, device=indices.device)
    low = _low_bits(n, k)
    if low is None:
        return _bitmap(indices, n)
    upper = _bitmap((indices >> low) + torch.arange(k, device=indices.device), _upper_bits(n, k, low))
    return torch.cat([upper, pack(indices, low)]) if low else upper


def decode_indices(stream: Tensor, n: int, k: int) -> Tensor:
    """Undo `encode_indices`: int64 (k,), ascending."""
    if k == n:
        return torch.arange(n, device=stream.device)
    low = _low_bits(n, k)
    if low is None:
        return unpack(stream, 1, n).nonzero().view(-1)
    upper = _upper_bits(n, k, low)
    size = packed_bytes(upper, 1)
    high = unpack(stream[:size], 1, upper).nonzero().view(-1) - torch.arange(k, device=stream.device)
    return high << low | unpack(stream[size:], low, k) if low else high


def _low_bits(n: int, k: int) -> int | None:
    """How many low bits of each index are written as they are; None where a bitmap is shorter.

    The high parts, which don't fall, are written as the ones of a bitmap, each a place further on.
    """
    best = min(range(max(1, n.bit_length())), key=lambda low: _bytes(n, k, low))
    return best if _bytes(n, k, best) < packed_bytes(n, 1) else None


def _bytes(n: int, k: int, low: int) -> int:
    return packed_bytes(_upper_bits(n, k, low), 1) + packed_bytes(k, low)


def _upper_bits(n: int, k: int, low: int) -> int:
    return ((n - 1) >> low) + k


def _bitmap(ones: Tensor, size: int) -> Tensor:
    flags = torch.zeros(size, dtype=torch.uint8, device=ones.device)
    flags[ones] = 1
    return pack(flags, 1)
