"""TopK: what is kept, and the error of each density from one sort."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orchestrate.plugins.lgreco.families import TopK
from orchestrate.plugins.lgreco.families.topk import kept_entries
from tests.plugins.lgreco.cluster import Cluster


def shared(values, density, **options):
    """What two ranks with the same gradient make of it."""
    values = torch.as_tensor(values, dtype=torch.float32)
    return Cluster(2, {"w": tuple(values.shape)}).step(TopK(**options), density, [[values]] * 2)[0]


def test_the_largest_magnitudes_are_sent():
    assert shared([1.0, -5.0, 2.0, 0.5, -3.0], 0.4).tolist() == [0.0, -5.0, 0.0, 0.0, -3.0]


def test_of_equals_the_first_are_sent():
    assert shared([1.0, 2.0, -2.0, 2.0, 2.0, 3.0], 0.5).tolist() == [0.0, 2.0, -2.0, 0.0, 0.0, 3.0]
    assert shared([1.0, 1.0, 1.0], 0.1).tolist() == [1.0, 0.0, 0.0]


def test_each_rank_sends_its_own_places():
    cluster = Cluster(2, {"w": (4,)})
    mean = cluster.step(TopK(), 0.25, [[torch.tensor([8.0, 0, 0, 1])], [torch.tensor([0.0, 0, 4, 1])]])[0]
    assert mean.tolist() == [4.0, 0.0, 2.0, 0.0]
    assert cluster.layers[0][0].residual.tolist() == [0, 0, 0, 1]
    mean = cluster.step(TopK(), 0.25, [[torch.zeros(4)], [torch.tensor([0.0, 0, 0, 1])]])[0]
    assert mean.tolist() == [0.0, 0.0, 0.0, 1.5]
    assert cluster.layers[1][0].residual.tolist() == [0, 0, 0, 0]


@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_a_density_keeps_so_many_rounded_up(n, seed):
    rng = np.random.default_rng(seed)
    for k in range(1, n + 1):
        assert kept_entries(n, k / n) == k
    density = float(rng.uniform(1e-6, 1))
    assert kept_entries(n, density) == math.ceil(density * n)


@pytest.mark.parametrize("half", [False, True])
def test_one_sort_gives_every_error(half):
    gradient = torch.randn(37, 11, generator=torch.Generator().manual_seed(0)) ** 3
    family = TopK(half=half, points=40)
    densities = [*family.settings(gradient.shape, 0.05, 0.1, 10), 1.0]
    for density, error in zip(densities, family.errors(gradient, densities).tolist(), strict=True):
        direct = float((gradient - shared(gradient, density, half=half)).double().norm())
        assert error == pytest.approx(direct, rel=1e-6, abs=1e-9)


def test_candidates_are_geometric_and_keep_different_numbers():
    family = TopK(points=30)
    found = family.settings((1000, 100), 0.01, 0.1, 10)
    assert len(found) in {30, 31}
    assert found[0] == pytest.approx(0.001)
    assert found[-1] == pytest.approx(0.1)
    assert 0.01 in found
    few = family.settings((30,), 0.1, 0.1, 10)
    assert [kept_entries(30, density) for density in few] == list(
        dict.fromkeys(kept_entries(30, d) for d in few)
    )
    assert 0.1 in few
    assert max(family.settings((30,), 0.5, 0.1, 10)) == 1.0


def test_rounded_values_are_fed_back_and_large_ones_stay_finite():
    cluster = Cluster(2, {"w": (2,)})
    gradient = torch.tensor([1e6, 1.0001])
    mean = cluster.step(TopK(half=True), 1.0, [[gradient]] * 2)[0]
    assert mean.tolist() == [65504.0, 1.0]
    assert torch.equal(cluster.layers[0][0].residual, gradient - mean)


def test_it_is_more_than_a_dense_message_beyond_a_density_of_one_in_w_or_so():
    family, shape = TopK(), (1000, 1000)
    dense = 2 * 3 / 4 * 4e6
    assert family.wire_bytes(shape, 0.01, 4) == 3 * (4e4 + 10_703)
    assert family.wire_bytes(shape, 0.4, 4) < dense < family.wire_bytes(shape, 0.5, 4)
