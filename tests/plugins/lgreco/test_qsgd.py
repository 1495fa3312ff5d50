"""QSGD: unbiased, of the variance that its closed form says, and safe at the ends of the range."""

from __future__ import annotations

import math

import pytest
import torch

from orchestrate.plugins.lgreco.families import QSGD
from tests.plugins.lgreco.cluster import Cluster


def draws(family, values, bits, count):
    """Decoded messages (count, n) of one gradient of whole buckets, in one piece."""
    repeated = values.repeat(count)
    stream = family._encode(repeated, bits, torch.Generator().manual_seed(0))
    return family._decode(stream, bits, len(repeated)).view(count, -1)


@pytest.mark.parametrize(("norm", "bits"), [("max", 4), ("l2", 4), ("max", 2)])
def test_it_is_unbiased_and_as_far_off_as_the_table_says(norm, bits):
    family, count = QSGD(bucket=32, norm=norm), 20_000
    values = torch.randn(96, generator=torch.Generator().manual_seed(1))
    found = draws(family, values, bits, count).double()
    levels = 2 ** (bits - 1) - 1
    spread = found.std(0)
    off = (found.mean(0) - values).abs()
    assert (off <= 5 * spread / count**0.5 + 1e-6).all()
    parts = values.split(32)
    norms = torch.cat([(p.abs().max() if norm == "max" else p.norm()).expand(len(p)) for p in parts])
    assert (found.var(0) <= (norms / levels).square() / 4 * 1.1).all()
    squares = (found - values).square().sum(1)
    expected = float(family.errors(values, [bits])[0]) ** 2
    assert abs(float(squares.mean()) - expected) <= 5 * float(squares.std()) / count**0.5


@pytest.mark.parametrize("bits", range(2, 17))
@pytest.mark.parametrize("n", [1, 7, 8, 50, 51, 149])
def test_no_entry_is_off_by_more_than_a_level(bits, n):
    family = QSGD(bucket=50)
    values = torch.randn(n, generator=torch.Generator().manual_seed(n))
    stream = family._encode(values, bits, torch.Generator().manual_seed(0))
    assert len(stream) == math.ceil(n * bits / 8) + 4 * math.ceil(n / 50) == family.wire_bytes((n,), bits, 2)
    decoded = family._decode(stream, bits, n)
    assert (decoded - values).abs().max() <= values.abs().max() / (2 ** (bits - 1) - 1) * (1 + 1e-5)
    largest = int(values.abs().argmax())
    assert float(decoded[largest]) == float(values[largest])


@pytest.mark.parametrize("norm", ["max", "l2"])
@pytest.mark.parametrize("size", [1e-45, 1e-40, 1e-30, 1e30, 3e38])
def test_very_small_and_very_large_numbers(norm, size):
    values = torch.tensor([size, 0.0, -size if size < 1e38 else 0.0])
    for decoded in draws(QSGD(bucket=3, norm=norm), values, 8, 20):
        assert decoded.isfinite().all()
        assert decoded[1] == 0
        assert decoded[0] == pytest.approx(size, rel=0.02, abs=2e-45)


def test_a_bucket_that_is_not_finite_spoils_no_other():
    values = torch.tensor([1.0, math.nan, 1.0, 2.0, math.inf, 1.0, 5.0])
    family = QSGD(bucket=2)
    decoded = family._decode(family._encode(values, 8, torch.Generator().manual_seed(0)), 8, 7)
    assert decoded.isnan().tolist()[:2] == [True, True]
    assert decoded[2:4].isfinite().all()
    assert not decoded[4:6].isfinite().any()
    assert decoded[6] == 5


@pytest.mark.parametrize(("ranks", "share"), [(2, 1 / 2), (4, 1 / 4 + 1)])
def test_ranks_round_apart_from_each_other(ranks, share):
    """Their errors average out; with more than two ranks the mean is rounded once more."""
    gradient = torch.rand(1000, generator=torch.Generator().manual_seed(3))
    family = QSGD(bucket=1000 // ranks)
    variance = float(family.errors(gradient, [2])[0]) ** 2
    found = Cluster(ranks, {"w": (1000,)}).step(family, 2, [[gradient]] * ranks)[0]
    assert 0.6 < float((found - gradient).square().sum()) / (variance * share) < 1.4


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_mean_over_ranks_is_unbiased(ranks):
    cluster, family = Cluster(ranks, {"w": (70,)}), QSGD(bucket=16)
    gradients = cluster.draw(1)
    true = torch.stack([each[0] for each in gradients]).mean(0)
    means = torch.stack([cluster.step(family, 3, gradients, seed)[0] for seed in range(100)])
    assert ((means.mean(0) - true).abs() <= 5 * means.std(0) / 10 + 1e-6).all()


def test_nothing_waits_unless_it_is_asked_to():
    cluster = Cluster(2, {"w": (9,)})
    cluster.step(QSGD(), 2, cluster.draw(0))
    assert cluster.layers[0][0].residual is None
    cluster.step(QSGD(feedback=True), 2, cluster.draw(0))
    assert cluster.layers[0][0].residual is not None


def test_candidates_are_bits():
    family = QSGD()
    assert family.settings((100,), 4, 2, 8) == (2, 3, 4, 5, 6, 7, 8)
    assert family.settings((100,), 4, 0, 3) == (2, 3, 4)
