"""Packing loses nothing and is the stream that it says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orchestrate.plugins.lgreco.packing import pack, packed_bytes, unpack


@given(st.integers(1, 32), st.integers(0, 70), st.integers(0, 2**32 - 1))
def test_unpacking_undoes_packing(bits, count, seed):
    codes = torch.randint(0, 2**bits, (count,), generator=torch.Generator().manual_seed(seed))
    stream = pack(codes, bits)
    assert stream.dtype == torch.uint8
    assert len(stream) == packed_bytes(count, bits) == -(-count * bits // 8)
    assert torch.equal(unpack(stream, bits, count).long(), codes)


@given(st.integers(1, 32), st.integers(0, 2**32 - 1))
def test_the_stream_is_the_codes_as_one_little_endian_number(bits, seed):
    codes = torch.randint(0, 2**bits, (13,), generator=torch.Generator().manual_seed(seed))
    number = sum(code << (index * bits) for index, code in enumerate(codes.tolist()))
    assert bytes(pack(codes, bits).tolist()) == number.to_bytes(packed_bytes(13, bits), "little")


@pytest.mark.parametrize("bits", range(1, 17))
def test_the_ends_of_the_range(bits):
    codes = torch.tensor([0, 2**bits - 1] * 6 + [2**bits - 1], dtype=torch.int32)
    assert unpack(pack(codes, bits), bits, 13).tolist() == codes.tolist()


def test_codes_of_any_integer_type():
    for dtype in (torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64):
        assert pack(torch.tensor([1, 0, 1], dtype=dtype), 1).tolist() == [5]


def test_what_is_out_of_range_is_dropped():
    assert unpack(pack(torch.tensor([9, -1, 2]), 3), 3, 3).tolist() == [1, 7, 2]


@pytest.mark.parametrize("bits", [0, 33, -1])
def test_sizes_that_no_code_has(bits):
    with pytest.raises(ValueError, match="1 to 32 bits"):
        pack(torch.tensor([1]), bits)
    with pytest.raises(ValueError, match="1 to 32 bits"):
        unpack(torch.zeros(1, dtype=torch.uint8), bits, 1)


def test_a_stream_of_another_length():
    with pytest.raises(ValueError, match="3 codes of 4 bits are 2 bytes, and the stream has 3"):
        unpack(torch.zeros(3, dtype=torch.uint8), 4, 3)
