from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from orchestrate.core import DataError
from orchestrate.plugins.tasks._idx import read_idx

LABELS = bytes([0, 0, 8, 1]) + struct.pack(">I", 3) + bytes([4, 5, 6])


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def written(content: bytes, name: str = "file") -> Path:
    path = Path(name)
    path.write_bytes(content)
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(arrays(np.uint8, array_shapes(max_dims=4, max_side=5)), st.booleans())
def test_it_reads_what_was_written(tmp_path, array, zipped):
    path = tmp_path / ("file.gz" if zipped else "file")
    path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    np.testing.assert_array_equal(read_idx(path, array.ndim), array)


@pytest.mark.parametrize(
    ("content", "dimensions", "says"),
    [
        (b"", 1, "starts with nothing, not 00000801"),
        (LABELS, 3, "no IDX file of unsigned bytes in 3 dimensions: it starts with 00000801"),
        (bytes([0, 0, 13, 1]) + LABELS[4:], 1, "starts with 00000d01"),
        (b"<!DOCTYPE html>", 1, "starts with 3c21444f"),
        (LABELS[:6], 1, "ends within its header"),
        (LABELS[:-1], 1, r"should hold 3 bytes of data \(shape \(3,\)\) but holds 2"),
        (LABELS + b"\0", 1, "should hold 3 bytes of data .* but holds 4"),
    ],
)
def test_a_wrong_file_is_refused_with_the_reason(content, dimensions, says):
    with pytest.raises(DataError, match=f"file.*{says}"):
        read_idx(written(content), dimensions)


@pytest.mark.parametrize(
    "content",
    [b"", b"not gzip", gzip.compress(LABELS)[:-4], gzip.compress(LABELS)[:12] + b"\xff" * 12],
    ids=["empty", "something else", "cut", "corrupt"],  # the bytes hold the time
)
def test_a_broken_gzip_file_is_refused(content):
    if not content:  # an empty file is a valid gzip file of nothing
        with pytest.raises(DataError, match="starts with nothing"):
            read_idx(written(content, "file.gz"), 1)
    else:
        with pytest.raises(DataError, match=r"can't read file.gz: .*Fetch the file again"):
            read_idx(written(content, "file.gz"), 1)


def test_a_file_that_is_not_there_is_refused():
    with pytest.raises(DataError, match="can't read nowhere"):
        read_idx(Path("nowhere"), 1)
