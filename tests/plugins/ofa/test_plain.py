"""The plain networks are those that were published, to the unit; and they train like any other."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from orchestrate.core import Candidate, Shape, enumerate_candidates
from orchestrate.core.testing import check_space
from orchestrate.core.training.count import flops, parameters
from orchestrate.plugins.ofa import cost
from orchestrate.plugins.ofa.plain import PlainNetworks
from orchestrate.plugins.ofa.plan import Plan

IMAGENET = Shape((3, 224, 224), 1000)


def space(*networks: str, **options: Any) -> PlainNetworks:
    return PlainNetworks(PlainNetworks.Options(**({"networks": networks} if networks else {}), **options))


# Parameters as torchvision and timm count them; MobileNetV3's last convolution has no bias here.
@pytest.mark.parametrize(
    ("name", "count", "millions"),
    [
        ("mobilenet-v2", 3_504_872, 300.8),
        ("mobilenet-v3-large", 5_483_032 - 1280, 216.6),
        ("resnet-50", 25_557_032, 4089.2),
        ("resnet-50d", 25_576_264, 4328.8),
    ],
)
def test_costs_on_imagenet(name: str, count: int, millions: float) -> None:
    only = space(name)
    plan = only.plan(Candidate({}), IMAGENET)
    with torch.device("meta"):
        network = only.build(Candidate({}), IMAGENET)
    assert cost.parameters(plan) == parameters(network) == count
    assert cost.macs(plan) == flops(network, IMAGENET.input) // 2
    assert cost.macs(plan) / 1e6 == pytest.approx(millions, abs=0.5)
    assert Plan.read(plan.data()) == plan


def test_a_space_of_plain_networks() -> None:
    small = space(resolution=32, width_multiplier=0.25)
    assert small.size() == 4
    check_space(small, Shape((1, 8, 8), 10), walks=4)
    assert next(one["network"] for one in enumerate_candidates(small)) == "mobilenet-v2"


def test_width_multipliers_make_narrower_networks() -> None:
    counts = [
        cost.parameters(space("mobilenet-v2", width_multiplier=factor).plan(Candidate({}), IMAGENET))
        for factor in (0.5, 1.0)
    ]
    assert counts == [1_968_680, 3_504_872]  # torchvision's
