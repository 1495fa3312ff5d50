from __future__ import annotations

import math
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from orchestrate.core import Candidate, Shape, SpaceError
from orchestrate.core.space import NoSpace
from orchestrate.plugins.objectives import Flops, Macs, Parameters
from tests.plugins.objectives.networks import (
    SHAPE,
    BranchesOnValues,
    Draws,
    Given,
    ReadsValues,
    Small,
)

ONE = Candidate({"width": 4})
VECTOR = Shape((5,), 7)


def flops(make, shape: Shape) -> float:
    return Flops().compute(ONE, Given(make), shape)


def parameters(make, shape: Shape = VECTOR) -> float:
    return Parameters().compute(ONE, Given(make), shape)


# By hand --------------------------------------------------------------------------------


def test_a_small_network_by_hand():
    convolution = 4 * 4 * (3 * 3 * 3) * 8  # 4x4 outputs, 3x3 kernels over 3 channels, 8 of them
    classifier = 8 * 10
    space, wide = Small(), Candidate({"width": 8})
    assert Macs().compute(wide, space, SHAPE) == convolution + classifier
    assert Flops().compute(wide, space, SHAPE) == 2 * (convolution + classifier)
    weights = (3 * 3 * 3 * 8 + 8) + (8 + 8) + (8 * 10 + 10)
    assert Parameters().compute(wide, space, SHAPE) == weights


@given(
    groups=st.sampled_from([1, 2, 4]),
    inward=st.integers(1, 3),
    outward=st.integers(1, 3),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    side=st.tuples(st.integers(6, 9), st.integers(6, 9)),
    bias=st.booleans(),
)
def test_a_convolution(groups, inward, outward, kernel, stride, padding, dilation, side, bias):
    inward, outward = inward * groups, outward * groups

    def make():
        return nn.Conv2d(inward, outward, kernel, stride, padding, dilation, groups=groups, bias=bias)

    shape = Shape((inward, *side), 2)
    out = [
        (length + 2 * padding - dilation * (k - 1) - 1) // stride + 1
        for length, k in zip(side, kernel, strict=True)
    ]
    weights = outward * (inward // groups) * math.prod(kernel)
    assert flops(make, shape) == 2 * math.prod(out) * weights
    assert parameters(make, shape) == weights + (outward if bias else 0)


@given(st.integers(1, 50), st.integers(1, 50), st.booleans())
def test_a_linear_layer(inward, outward, bias):
    def make():
        return nn.Linear(inward, outward, bias=bias)

    assert flops(make, Shape((inward,), outward)) == 2 * inward * outward
    assert parameters(make) == inward * outward + (outward if bias else 0)


def test_bias_normalisation_activation_and_pooling_count_nothing():
    def make():
        return nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d(2), nn.Dropout())

    assert flops(make, SHAPE) == 0


def test_attention_is_counted():
    def make():
        return nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)

    tokens, width = 5, 8
    projections = tokens * width * 4 * width
    attention = 2 * tokens * tokens * width
    feed_forward = 2 * tokens * width * 16
    assert flops(make, Shape((tokens, width), 2)) == 2 * (projections + attention + feed_forward)


# What counts as a parameter -------------------------------------------------------------


def test_frozen_parameters_and_buffers_do_not_count():
    def make():
        model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7))
        model[0].weight.requires_grad = False
        return model

    assert parameters(make) == 7 + 14


def test_a_shared_parameter_counts_once():
    def make():
        model = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
        model[1].weight = model[0].weight
        return model

    assert parameters(make) == 25 + 5 + 5


# Building -------------------------------------------------------------------------------


def test_objectives_asked_in_a_row_build_one_network():
    space = Small()
    for objective in (Parameters(), Flops(), Macs(), Parameters()):
        objective.compute(Candidate({"width": 4}), space, SHAPE)
    assert space.builds_made == 1
    Flops().compute(Candidate({"width": 8}), space, SHAPE)
    Flops().compute(Candidate({"width": 8}), space, Shape((1, 8, 8), 10))
    assert space.builds_made == 3


def test_no_network_is_mistaken_for_that_of_another_space_or_candidate():
    one, other = Given(lambda: nn.Linear(5, 7)), Given(lambda: nn.Linear(5, 9))
    assert Flops().compute(ONE, one, VECTOR) == 70
    assert Flops().compute(ONE, other, VECTOR) == 90
    space = Small()
    values = {w: Parameters().compute(Candidate({"width": w}), space, SHAPE) for w in (4, 8)}
    assert values[4] < values[8]


def test_the_network_takes_no_memory_where_it_can_do_without():
    # 4 TB of weights.
    assert parameters(lambda: nn.Linear(1_000_000, 1_000_000, bias=False)) == 1e12


@pytest.mark.parametrize("make", [ReadsValues, BranchesOnValues, Draws])
def test_a_network_that_needs_numbers_is_counted_on_the_cpu(make):
    space = Given(make)
    assert Flops().compute(ONE, space, VECTOR) == 2 * 5 * 7
    assert Parameters().compute(ONE, space, VECTOR) == 5 * 7 + 7
    assert Macs().compute(ONE, space, VECTOR) == 5 * 7
    assert space.builds_made <= 2  # on the meta device, then on the CPU, and never again


@pytest.mark.parametrize("make", [lambda: nn.Linear(5, 7), ReadsValues, BranchesOnValues, Draws])
def test_the_random_state_of_torch_is_left_alone(make):
    before = torch.get_rng_state()
    flops(make, VECTOR)
    parameters(make)
    assert torch.equal(torch.get_rng_state(), before)


def test_settings_of_torch_are_left_alone():
    with torch.enable_grad():
        flops(ReadsValues, VECTOR)
        assert torch.is_grad_enabled()
    assert torch.empty(1).device.type == "cpu"


def test_threads_may_ask_at_once():
    space, found = Small(), []

    def ask(width: int) -> None:
        for _ in range(5):
            value = Flops().compute(Candidate({"width": width}), space, SHAPE)
            found.append((width, value))

    threads = [threading.Thread(target=ask, args=(width,)) for width in (4, 8, 4, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    assert set(found) == {(w, 2 * (16 * 27 * w + 10 * w)) for w in (4, 8)}


# What goes wrong ------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [Parameters(), Flops(), Macs()])
def test_a_space_without_networks_is_refused(objective):
    with pytest.raises(SpaceError, match="builds no networks"):
        objective.compute(Candidate(), NoSpace(), SHAPE)


@pytest.mark.parametrize("objective", [Parameters(), Flops()])
def test_an_error_in_build_passes_through(objective):
    def make():
        raise ZeroDivisionError("in build")

    with pytest.raises(ZeroDivisionError, match="in build"):
        objective.compute(ONE, Given(make), VECTOR)


def test_an_input_that_does_not_fit_passes_through():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        flops(lambda: nn.Linear(6, 7), VECTOR)
