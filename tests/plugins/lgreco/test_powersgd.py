"""PowerSGD: exact at full rank, linear in the ranks, its error table against singular values."""

from __future__ import annotations

import pytest
import torch

from orchestrate.plugins.lgreco.families import PowerSGD
from tests.plugins.lgreco.cluster import Cluster, average


def matrix(rows, columns, rank, seed=0):
    rng = torch.Generator().manual_seed(seed)
    left, right = torch.randn(rows, rank, generator=rng), torch.randn(rank, columns, generator=rng)
    return left @ right


def relative(mean, true):
    return float((mean - true).norm() / true.norm())


@pytest.mark.parametrize(("rows", "columns"), [(30, 20), (20, 30), (16, 16)])
def test_it_is_exact_from_the_matrix_s_rank_on(rows, columns):
    gradient = matrix(rows, columns, 5)
    for rank in (5, 6, min(rows, columns), 100):
        cluster = Cluster(2, {"w": (rows, columns)})
        mean = cluster.step(PowerSGD(), rank, [[gradient]] * 2)[0]
        assert relative(mean, gradient) < 5e-6
        assert float(cluster.layers[0][0].residual.norm()) < 1e-4
    mean = Cluster(2, {"w": (rows, columns)}).step(PowerSGD(), 4, [[gradient]] * 2)[0]
    assert relative(mean, gradient) > 0.05


def test_ranks_with_shards_are_one_with_their_mean():
    several, one = Cluster(4), Cluster(4)
    for step in range(4):
        gradients = several.draw(step)
        whole = [average(gradients)] * 4
        for a, b in zip(
            several.step(PowerSGD(), 2, gradients, step), one.step(PowerSGD(), 2, whole, step), strict=True
        ):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_a_warm_start_finds_the_largest_singular_values():
    gradient = matrix(40, 30, 30)
    best = float(torch.linalg.svdvals(gradient)[3:].norm() / gradient.norm())
    cluster = Cluster(2, {"w": (40, 30)})
    found = []
    for step in range(100):
        for layer in (layers[0] for layers in cluster.layers):
            layer.residual = None
        found.append(relative(cluster.step(PowerSGD(), 3, [[gradient]] * 2, step)[0], gradient))
    assert found[0] > 1.02 * best
    assert found[-1] == pytest.approx(best, rel=1e-3)
    # A smaller rank keeps the best of the columns, a larger one all of them.
    for layer in (layers[0] for layers in cluster.layers):
        layer.residual = None
    less = relative(cluster.step(PowerSGD(), 2, [[gradient]] * 2, 100)[0], gradient)
    assert less == pytest.approx(float(torch.linalg.svdvals(gradient)[2:].norm() / gradient.norm()), rel=1e-2)
    for layer in (layers[0] for layers in cluster.layers):
        layer.residual = None
    more = relative(cluster.step(PowerSGD(), 6, [[gradient]] * 2, 101)[0], gradient)
    assert more < best


def test_residuals_do_not_drift_apart():
    """Of independent noise on the ranks: they stay within a few gradients' norms."""
    cluster = Cluster(4, {"w": (20, 20)})
    norms = []
    for step in range(200):
        cluster.step(PowerSGD(), 2, cluster.draw(step), step)
        norms.append(float(cluster.layers[0][0].residual.norm()))
    assert norms[-1] < 1.5 * norms[49]


@pytest.mark.parametrize("shape", [(30, 20), (20, 7, 3, 3), (9, 9), (12,)])
def test_one_decomposition_gives_every_error(shape):
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(1)) ** 3
    ranks = list(range(1, 1 + min(shape[0], gradient.numel() // shape[0])))
    values = torch.linalg.svdvals(gradient.reshape(shape[0], -1).double())
    expected = [float(values[rank:].norm()) for rank in ranks]
    assert PowerSGD().errors(gradient, ranks).tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_errors_by_power_iteration_are_close_and_never_below():
    gradient = torch.randn(60, 80, generator=torch.Generator().manual_seed(2)) @ torch.diag(
        torch.linspace(1, 0, 80) ** 2
    )
    ranks = [1, 2, 4, 8]
    exact = PowerSGD().errors(gradient, ranks)
    ratios = [PowerSGD(exact=0, iterations=i).errors(gradient, ranks) / exact for i in (1, 2, 6)]
    assert (torch.stack(ratios) >= 1 - 1e-9).all()
    assert ratios[0].max() < 1.15
    assert ratios[1].max() < 1.02
    assert ratios[2].max() < 1.001


def test_columns_that_became_zero_are_drawn_anew():
    cluster = Cluster(2, {"w": (6, 5)})
    cluster.step(PowerSGD(), 3, [[torch.zeros(6, 5)]] * 2)
    assert not cluster.layers[0][0].basis.any()
    gradient = matrix(6, 5, 2)
    assert relative(cluster.step(PowerSGD(), 3, [[gradient]] * 2, 1)[0], gradient) < 5e-6


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_half_precision_bears_gradients_of_any_size(scale):
    gradient = matrix(20, 12, 2)
    cluster = Cluster(3, {"w": (20, 12)})
    for step in range(3):
        for layer in (layers[0] for layers in cluster.layers):
            layer.residual = None
        mean = cluster.step(PowerSGD(half=True), 2, [[gradient * scale]] * 3, step)[0]
    assert relative(mean, gradient * scale) < 2e-3


def test_bytes():
    family = PowerSGD()
    assert family.wire_bytes((64, 32, 3, 3), 4, 4) == 2 * 3 / 4 * 4 * 4 * (64 + 288)
    assert PowerSGD(half=True).wire_bytes((64, 288), 4, 4) == 2 * 3 / 4 * 2 * 4 * (64 + 288)
    assert family.wire_bytes((3, 100), 50, 2) == family.wire_bytes((3, 100), 3, 2)


def test_candidates_are_whole_ranks_that_the_layer_has():
    family = PowerSGD()
    assert family.settings((64, 100), 4, 0.5, 2) == (2, 3, 4, 5, 6, 7, 8)
    assert family.settings((64, 100), 1, 0.5, 2) == (1, 2)
    assert family.settings((3, 100), 4, 0.5, 2) == (2, 3)
    assert family.settings((12,), 4, 0.5, 2) == (1,)
    assert family.settings((64, 100), 4, 2, 2) == (4, 8)
