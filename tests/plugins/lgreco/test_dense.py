"""Dense gradients: exact, or rounded once, each width in one message."""

from __future__ import annotations

import pytest
import torch

from orchestrate.plugins.lgreco.families import Dense
from tests.plugins.lgreco.cluster import SHAPES, Cluster, average


def test_it_is_the_mean():
    cluster = Cluster(4)
    gradients = cluster.draw(0)
    for mean, true in zip(cluster.step(Dense(), 32, gradients), average(gradients), strict=True):
        assert torch.allclose(mean, true, rtol=1e-6, atol=1e-7)


def test_halves_are_rounded_and_do_not_overflow_by_being_added():
    cluster = Cluster(4, {"w": (2,)})
    mean = cluster.step(Dense(), 16, [[torch.tensor([60000.0, 1.0001])]] * 4)[0]
    assert mean.tolist() == [60000.0, 1.0]


def test_each_width_travels_in_one_message():
    cluster = Cluster(2)
    widths = [32, 16, 32, 16, 16, 32]
    gradients = cluster.draw(0)
    means = cluster.step(Dense(), widths, gradients)
    assert cluster.calls == 2
    sizes = [torch.Size(shape).numel() for shape in SHAPES.values()]
    assert cluster.bytes == sum(size * width // 8 for size, width in zip(sizes, widths, strict=True))
    for mean, true, width in zip(means, average(gradients), widths, strict=True):
        assert torch.allclose(mean, true, atol=1e-6 if width == 32 else 2e-3)


def test_errors():
    gradient = torch.randn(50, generator=torch.Generator().manual_seed(0))
    half, single = Dense().errors(gradient, [16, 32]).tolist()
    assert single == 0
    assert half == pytest.approx(float((gradient - gradient.half().float()).norm()), rel=1e-5)


def test_candidates():
    assert Dense().settings((5,), 32, 16, 32) == (16, 32)
    assert Dense().settings((5,), 16, 32, 32) == (16, 32)
    assert Dense().settings((5,), 32, 32, 32) == (32,)
