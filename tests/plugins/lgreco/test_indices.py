"""The places of kept entries come back, in as few bits as is said."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orchestrate.plugins.lgreco.indices import decode_indices, encode_indices, index_bytes


@given(st.integers(1, 400), st.data())
def test_decoding_undoes_encoding(n, data):
    k = data.draw(st.integers(1, n))
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32 - 1)))
    indices = torch.randperm(n, generator=rng)[:k].sort().values
    stream = encode_indices(indices, n)
    assert stream.dtype == torch.uint8
    assert len(stream) == index_bytes(n, k)
    assert torch.equal(decode_indices(stream, n, k), indices)


@pytest.mark.parametrize("k", [1, 2, 5, 40])
@pytest.mark.parametrize("first", [True, False])
def test_places_that_lie_together_at_an_end(k, first):
    n = 100_003
    indices = torch.arange(k) if first else torch.arange(n - k, n)
    assert torch.equal(decode_indices(encode_indices(indices, n), n, k), indices)


@pytest.mark.parametrize("n", [1000, 123_457, 2**24])
@pytest.mark.parametrize("density", [0.001, 0.01, 0.1, 0.25])
def test_they_take_little_more_than_there_is_to_tell(n, density):
    k = math.ceil(density * n)
    least = (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2) / 8
    size = index_bytes(n, k)
    assert least <= size <= 1.25 * least + 4
    if k > 4:
        assert size < k * math.ceil(math.log2(n)) / 8


def test_it_is_never_more_than_a_bitmap_and_nothing_where_all_are_kept():
    assert index_bytes(1000, 1000) == 0
    assert all(index_bytes(1000, k) <= 125 for k in range(1, 1001))
    assert index_bytes(1000, 500) == 125
