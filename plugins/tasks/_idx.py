"""Reads IDX, the format of MNIST's files: a magic number, the dimensions, then bare bytes.

http://yann.lecun.com/exdb/mnist/ describes it: two zero bytes, one for the type of an element and
one for the number of dimensions; each dimension as a big-endian 32-bit integer; the elements,
row-major.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...core import DataError

UNSIGNED_BYTE = 0x08


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped if its name ends in `.gz`.

    Args:
        path: the file.
        dimensions: how many it must have.

    Returns:
        A read-only array of the file's shape.

    Raises:
        DataError: the file can't be read, isn't IDX, or is longer or shorter than it says.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"can't read {path}: {error}. Fetch the file again") from error
    header = 4 * (1 + dimensions)
    magic = bytes([0, 0, UNSIGNED_BYTE, dimensions])
    if data[:4] != magic:
        raise DataError(
            f"{path} is no IDX file of unsigned bytes in {dimensions} dimensions: it starts with "
            f"{data[:4].hex() or 'nothing'}, not {magic.hex()}. Is it the file that its name says?"
        )
    if len(data) < header:
        raise DataError(f"{path} ends within its header: fetch the file again")
    shape: tuple[int, ...] = struct.unpack(f">{dimensions}I", data[4:header])
    if len(data) - header != math.prod(shape):
        raise DataError(
            f"{path} should hold {math.prod(shape):,} bytes of data (shape {shape}) "
            f"but holds {len(data) - header:,}: fetch the file again"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape)
