"""Codes of a few bits packed into bytes: a little-endian stream, eight codes in as many bytes as a code
has bits. One message is one such stream, so each starts at a byte.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits take."""
    return (count * bits + 7) // 8


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack integer codes (n,), each in [0, 2**bits), into uint8 (ceil(n * bits / 8),).

    Code i has the bits from i * bits on; bit j of the stream is bit j mod 8 of byte j // 8. What a code
    has above its bits is dropped.

    Raises:
        ValueError: `bits` is not within 1 and 32.
    """
    _check(bits)
    count = len(codes)
    groups = -(-count // 8)
    wide = torch.int32 if bits <= 16 else torch.int64
    columns = torch.zeros(groups * 8, dtype=wide, device=codes.device)
    columns[:count] = codes
    columns = columns.view(groups, 8).T.contiguous() & ((1 << bits) - 1)
    stream = torch.empty(groups, bits, dtype=torch.uint8, device=codes.device)
    for byte in range(bits):
        value = torch.zeros(groups, dtype=wide, device=codes.device)
        for code, shift in _meet(byte, bits):
            value |= columns[code] << shift if shift >= 0 else columns[code] >> -shift
        stream[:, byte] = value & 255
    return stream.view(-1)[: packed_bytes(count, bits)]


def unpack(stream: Tensor, bits: int, count: int) -> Tensor:
    """Undo `pack`: `count` codes (count,) from a stream that starts at the first byte; int32 up to 16 bits.

    Raises:
        ValueError: `bits` is not within 1 and 32, or the stream is not as long as that many codes are.
    """
    _check(bits)
    size = packed_bytes(count, bits)
    if len(stream) != size:
        raise ValueError(f"{count} codes of {bits} bits are {size} bytes, and the stream has {len(stream)}")
    groups = -(-count // 8)
    wide = torch.int32 if bits <= 16 else torch.int64
    padded = torch.zeros(groups * bits, dtype=wide, device=stream.device)
    padded[:size] = stream
    columns = padded.view(groups, bits).T.contiguous()
    codes = torch.zeros(8, groups, dtype=wide, device=stream.device)
    for byte in range(bits):
        for code, shift in _meet(byte, bits):
            codes[code] |= columns[byte] >> shift if shift >= 0 else columns[byte] << -shift
    return codes.T.reshape(-1)[:count] & ((1 << bits) - 1)


def _meet(byte: int, bits: int) -> Iterator[tuple[int, int]]:
    """The codes, of eight, that have bits in this byte, and how far left each starts of the byte."""
    for code in range(byte * 8 // bits, min(8, (byte * 8 + 7) // bits + 1)):
        yield code, code * bits - byte * 8


def _check(bits: int) -> None:
    if not 1 <= bits <= 32:
        raise ValueError(f"a code has 1 to 32 bits, not {bits}")


def to_bytes(values: Tensor) -> Tensor:
    """The memory of a tensor, uint8 (n * itemsize,)."""
    return values.contiguous().view(-1).view(torch.uint8)


def from_bytes(stream: Tensor, dtype: torch.dtype) -> Tensor:
    """Undo `to_bytes`: a flat copy, since a part of a stream need not lie where its type must."""
    return stream.clone().view(dtype)
