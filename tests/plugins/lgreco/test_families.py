"""What holds for every family of compressors."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from orchestrate.plugins.lgreco.families import FAMILIES, QSGD, Dense, PowerSGD, TopK
from orchestrate.plugins.lgreco.layer import Layer, regrouped
from tests.plugins.lgreco.cluster import EVERY, LOSSY, SHAPES, Cluster, average


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_bytes_are_what_collectives_are_handed(kind, ranks):
    family, setting = EVERY[kind]
    cluster = Cluster(ranks)
    for step in range(2):
        cluster.step(family, setting, cluster.draw(step))
        clamped = {shape: family.clamp(shape, setting) for shape in SHAPES.values()}
        expected = sum(family.wire_bytes(shape, clamped[shape], ranks) for shape in SHAPES.values())
        begins = kind == "powersgd, half" and not step  # sizes of the layers, by which halves are scaled
        extra = 2 * (ranks - 1) / ranks * 4 * len(SHAPES) if begins else 0
        assert cluster.bytes == pytest.approx(expected + extra, rel=1e-12)
        rounds = 2 if family.name == "powersgd" or (family.name == "qsgd" and ranks > 2) else 1
        assert cluster.calls == rounds + begins


@pytest.mark.parametrize("kind", EVERY)
def test_one_rank_sends_nothing_and_what_was_left_over_is_used_up(kind):
    family, setting = EVERY[kind]
    cluster = Cluster(1)
    gradients = cluster.draw(0)
    residual = torch.ones(10, 33)
    cluster.layers[0][1].residual = residual
    means = cluster.step(family, setting, gradients)
    for name, mean, gradient in zip(SHAPES, means, gradients[0], strict=True):
        assert torch.equal(mean, gradient + residual if name == "linear" else gradient)
    assert all(layer.residual is None for layer in cluster.layers[0])
    assert cluster.bytes == 0 == family.wire_bytes((10, 33), setting, 1)


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("layer", ["linear", "bias"])
def test_what_is_not_finite_shows_in_the_mean_and_leaves_all_records_as_they_were(kind, bad, layer):
    family, setting = EVERY[kind]
    cluster = Cluster(3)
    for step in range(2):
        cluster.step(family, setting, cluster.draw(step))
    before = [[one.state() for one in rank] for rank in cluster.layers]
    gradients = cluster.draw(2)
    index = list(SHAPES).index(layer)
    gradients[1][index].view(-1)[3] = bad
    means = cluster.step(family, setting, gradients)
    assert not means[index].isfinite().all()
    for rank, states in zip(cluster.layers, before, strict=True):
        for one, state in zip(rank, states, strict=True):
            assert one.state().keys() == state.keys()
            assert all(torch.equal(one.state()[name], tensor) for name, tensor in state.items())
    assert all(mean.isfinite().all() for mean in cluster.step(family, setting, cluster.draw(3)))


@pytest.mark.parametrize("kind", EVERY)
def test_zeros_stay_zeros_and_do_no_harm(kind):
    family, setting = EVERY[kind]
    cluster = Cluster(2)
    nothing = [[torch.zeros(shape) for shape in SHAPES.values()]] * 2
    for _ in range(3):
        for mean in cluster.step(family, setting, nothing):
            assert torch.equal(mean, torch.zeros_like(mean))
    gradients = cluster.draw(0)
    means = cluster.step(family, setting, gradients, seed=1)
    for mean, true in zip(means, average(gradients), strict=True):
        assert mean.isfinite().all()
        assert mean.abs().sum() > 0
        assert (mean - true).norm() < 1.2 * true.norm() + sum(g.abs().max() for g in gradients[0])


@pytest.mark.parametrize("kind", EVERY)
def test_gradients_of_other_types_and_layouts(kind):
    family, setting = EVERY[kind]
    plain, other = Cluster(2), Cluster(2)
    gradients = plain.draw(0)
    turned = [
        [g.double().mT.contiguous().mT if g.ndim == 2 else g.double() for g in rank] for rank in gradients
    ]
    assert not turned[0][1].is_contiguous()
    for mean, same in zip(
        plain.step(family, setting, gradients), other.step(family, setting, turned), strict=True
    ):
        assert torch.allclose(mean, same, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", EVERY)
def test_it_is_the_same_again_with_the_same_seed(kind):
    family, setting = EVERY[kind]
    first, second, third = (Cluster(2) for _ in range(3))
    gradients = first.draw(0)
    means = [
        one.step(family, setting, gradients, seed) for one, seed in ((first, 1), (second, 1), (third, 2))
    ]
    assert all(torch.equal(a, b) for a, b in zip(means[0], means[1], strict=True))
    drawn = family.name in {"qsgd", "powersgd"}
    assert all(torch.equal(a, b) for a, b in zip(means[0], means[2], strict=True)) != drawn


@pytest.mark.parametrize("kind", EVERY)
def test_nothing_to_send(kind):
    family, setting = EVERY[kind]
    cluster = Cluster(2, {})
    assert cluster.step(family, setting, [[], []]) == []
    assert cluster.calls == 0


TELESCOPES = {
    "topk": [(TopK(), 0.05)],
    "topk, densities": [(TopK(), 0.02), (TopK(), 0.3), (TopK(), 1.0), (TopK(), 0.1)],
    "topk, half": [(TopK(half=True), 0.05), (TopK(half=True), 0.2)],
    "powersgd": [(PowerSGD(), 2)],
    "powersgd, ranks": [(PowerSGD(), rank) for rank in (1, 4, 3, 8, 2, 100)],
    "qsgd, fed back": [(QSGD(bucket=50, feedback=True), bits) for bits in (8, 6, 7)],
    "families": [(TopK(), 0.1), (PowerSGD(), 3), (Dense(), 32), (QSGD(feedback=True), 7), (PowerSGD(), 1)],
}


@pytest.mark.parametrize("kind", TELESCOPES)
def test_nothing_of_a_gradient_is_lost(kind):
    """What was decoded in all steps is the sum of all means, less what still waits."""
    phases, steps = TELESCOPES[kind], 24
    cluster = Cluster(3)
    sent = [torch.zeros(shape) for shape in SHAPES.values()]
    due = [torch.zeros(shape) for shape in SHAPES.values()]
    for step in range(steps):
        if step == 10:  # a restart
            for rank in cluster.layers:
                rank[:] = [reloaded(one) for one in rank]
        if step == 16:  # of a group of two, then of four
            cluster = resized(resized(cluster, 2), 4)
        family, setting = phases[step * len(phases) // steps]
        gradients = cluster.draw(step)
        means = cluster.step(family, setting, gradients, seed=step)
        for total, one in zip(sent, means, strict=True):
            total.add_(one)
        for total, one in zip(due, average(gradients), strict=True):
            total.add_(one)
    for given, true, rest in zip(sent, due, cluster.waiting(), strict=True):
        assert torch.allclose(given + rest, true, rtol=1e-5, atol=2e-5)
    if phases[-1][1] < 8:
        assert max(float(rest.norm()) for rest in cluster.waiting()) > 0.1


def reloaded(layer):
    found = Layer(layer.name, layer.shape)
    found.load({name: tensor.clone() for name, tensor in layer.state().items()})
    return found


def resized(cluster, ranks):
    found = Cluster(ranks)
    for index in range(len(SHAPES)):
        state = regrouped([rank[index].state() for rank in cluster.layers])
        for rank in found.layers:
            rank[index].load(state)
    for before, after in zip(cluster.waiting(), found.waiting(), strict=True):
        assert torch.allclose(before, after, atol=1e-6)
    return found


@pytest.mark.parametrize("kind", LOSSY)
def test_errors_are_what_a_message_leaves_out(kind):
    """Of a gradient that all ranks share, the first time it is sent."""
    family, setting = LOSSY[kind]
    cluster = Cluster(2)
    gradients = [cluster.draw(0)[0]] * 2
    means = cluster.step(family, setting, gradients)
    for mean, gradient in zip(means, gradients[0], strict=True):
        error = float(family.errors(gradient, [family.clamp(gradient.shape, setting)])[0])
        actual = float((mean - gradient).norm())
        if family.name == "topk":
            assert actual == pytest.approx(error, rel=1e-5, abs=1e-7)
        elif family.name == "powersgd":  # one step of power iteration is no SVD
            assert 0.99 * error - 2e-3 <= actual <= 2 * error + 2e-3 * float(gradient.norm())
        else:
            assert actual <= 3 * error + 1e-6


@pytest.mark.parametrize("kind", EVERY)
def test_errors_of_what_is_not_finite(kind):
    family, setting = EVERY[kind]
    gradient = torch.tensor([[1.0, math.nan], [2.0, 1.0]])
    found = family.errors(gradient, [setting, setting])
    assert found.shape == (2,)
    assert found.isnan().all()


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("shape", [(7, 3, 3, 3), (64, 130), (3,), (), (1, 1)])
def test_settings_ascend_and_hold_the_reference(kind, shape):
    family, reference = EVERY[kind]
    low, high = family.bounds
    found = family.settings(shape, reference, low, high)
    assert family.clamp(shape, reference) in found
    assert list(found) == sorted(set(found))
    for setting in found:
        family.check(setting)
    partly = [setting for setting in found if family.name != "topk" or setting < 1]  # all need no places
    sizes = [family.wire_bytes(shape, setting, 4) for setting in partly]
    assert all(a <= b for a, b in itertools.pairwise(sizes))
    errors = family.errors(torch.randn(shape, generator=torch.Generator().manual_seed(0)), found)
    assert errors.dtype == torch.float64
    assert all(a >= b - 1e-6 for a, b in itertools.pairwise(errors.tolist()))
    assert family.settings(shape, reference, 3 if family.name == "qsgd" else 1, 1)


@pytest.mark.parametrize(
    ("name", "setting", "text"),
    [
        ("topk", 0.0, "above 0 and at most 1, not 0"),
        ("topk", 1.5, "at most 1, not 1.5"),
        ("qsgd", 1, "2 to 16 whole bits, not 1"),
        ("qsgd", 4.5, "not 4.5"),
        ("powersgd", 0, "from 1 on, not 0"),
        ("powersgd", 2.5, "not 2.5"),
        ("dense", 8, "16 or 32 bits, not 8"),
    ],
)
def test_settings_that_no_family_has(name, setting, text):
    with pytest.raises(ValueError, match=text):
        FAMILIES[name]().clamp((4, 4), setting)
    with pytest.raises(ValueError, match=text):
        FAMILIES[name]().settings((4, 4), setting, 1, 2)
