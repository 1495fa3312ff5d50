"""Anchors of the paper's configurations, sizes, costs and encodings."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrate.core import Candidate, Shape, SpaceError, enumerate_candidates, replay
from orchestrate.core.draw import draw_candidate
from orchestrate.core.seeds import generator
from orchestrate.core.training.count import flops, parameters
from orchestrate.plugins.ofa import cost
from orchestrate.plugins.ofa.encoding import Encoder
from orchestrate.plugins.ofa.mobile import OfaMobileNetV3, OfaProxyless
from orchestrate.plugins.ofa.network import Network
from orchestrate.plugins.ofa.plan import Bottleneck, Plan, rounded
from orchestrate.plugins.ofa.resnet import OfaResNet50D
from orchestrate.plugins.ofa.supernet import Supernet
from tests.plugins.ofa.conftest import GROUPED, SHAPE, TINY, TINY_NAMES

IMAGENET = Shape((3, 224, 224), 1000)
WIDE = OfaMobileNetV3(OfaMobileNetV3.Options(width_multiplier=1.2))
PAPER = (OfaMobileNetV3(), WIDE, OfaProxyless(), OfaResNet50D())
NAMES = [
    *("mobilenetv3", "mobilenetv3-1.2", "proxyless", "resnet50d"),
    *("tiny-mobilenetv3", "tiny-proxyless", "tiny-resnet50d", "tiny-grouped"),
]
seeds = st.integers(0, 2**32)


@pytest.mark.parametrize(
    ("space", "smallest", "largest"),
    [
        (PAPER[0], 121_278_672, 566_170_656),
        (PAPER[1], 193_078_200, 843_101_040),
        (PAPER[2], 265_526_256, 1_004_908_032),
        (PAPER[3], 962_192_128, 7_491_643_904),
    ],
    ids=["mobilenetv3", "mobilenetv3-1.2", "proxyless", "resnet50d"],
)
def test_multiply_accumulates_on_imagenet(space: Any, smallest: int, largest: int) -> None:
    low = space.corner(lambda kind: kind == "resolution")
    for candidate, expected in ((low, smallest), (space.largest, largest)):
        plan = space.plan(candidate, IMAGENET)
        with torch.device("meta"):
            network = Network(plan)
        assert cost.macs(plan) == expected == flops(network, IMAGENET.input) // 2
        assert cost.parameters(plan) == parameters(network)


@pytest.mark.parametrize(
    ("space", "expected"),
    list(zip(PAPER, (7_678_880, 10_715_752, 7_956_882, 48_105_992), strict=True)),
    ids=["mobilenetv3", "mobilenetv3-1.2", "proxyless", "resnet50d"],
)
def test_supernet_parameters_on_imagenet(space: Any, expected: int) -> None:
    with torch.device("meta"):
        supernet = Supernet(space, IMAGENET)
    assert parameters(supernet) == expected


def test_groups_follow_the_active_width() -> None:
    for candidate in (GROUPED.largest, GROUPED.smallest):
        for layer in GROUPED.plan(candidate, SHAPE).layers:
            if isinstance(layer, Bottleneck):
                assert layer.groups == layer.middle // 4 > 1
    with pytest.raises(SpaceError, match="doesn't divide"):
        OfaResNet50D(OfaResNet50D.Options(preset="tiny", group_width=5)).plan({}, SHAPE)


def test_a_middle_network_on_imagenet() -> None:
    space = PAPER[0]
    genes = {gene.name: 3 if gene.kind in ("kernel", "expand") else gene.options[-1] for gene in space.genes}
    assert cost.macs(space.plan(Candidate(genes), IMAGENET)) == 226_193_808


def test_sizes_on_imagenet() -> None:
    assert PAPER[0].size() == 25 * 7371**5
    assert PAPER[2].size() == 25 * 9 * 7371**5
    assert PAPER[3].size() == 25 * 2 * 3**6 * 117**3 * 1053


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (OfaMobileNetV3, {"depths": (1, 2), "kernels": (3, 5), "expansions": (2,)}),
        (OfaProxyless, {"depths": (1, 2), "kernels": (3,), "expansions": (2, 3)}),
        (OfaResNet50D, {"depths": (1, 2), "widths": (0.5, 1.0), "expansions": (0.25,)}),
    ],
    ids=["mobilenetv3", "proxyless", "resnet50d"],
)
def test_size_is_the_number_of_different_networks(cls: Any, options: Any) -> None:
    space = cls(cls.Options(preset="tiny", **options))
    listed = list(enumerate_candidates(space))
    plans = {space.plan(candidate, SHAPE) for candidate in listed}
    assert len(listed) == len({one.digest for one in listed}) == len(plans) == space.size()


@pytest.mark.parametrize("space", PAPER[:1] + PAPER[3:], ids=["mobilenetv3", "resnet50d"])
def test_encodings_have_the_papers_length(space: Any) -> None:
    options = type(space).Options(resolutions=(128, 144, 160, 176, 192, 208, 216, 224))
    assert Encoder(type(space)(options)).size == {"ofa-mobilenetv3": 128, "ofa-resnet50d": 82}[space.name]


def test_encoding_with_all_resolutions() -> None:
    assert Encoder(PAPER[0]).size == 145


@pytest.mark.parametrize("space", [*PAPER, *TINY], ids=NAMES)
@settings(max_examples=8)
@given(seed=seeds)
def test_decoding_undoes_encoding(space: Any, seed: int) -> None:
    candidate = draw_candidate(space, generator(seed))
    encoder = Encoder(space)
    vector = encoder.encode(candidate)
    assert encoder.decode(vector) == candidate == replay(space, dict(candidate))
    assert vector.sum() == sum(name.rpartition(".")[2] != "depth" for name in candidate)


@pytest.mark.parametrize("space", [*PAPER, *TINY], ids=NAMES)
@settings(max_examples=8)
@given(seed=seeds)
def test_costs_grow_with_every_gene(space: Any, seed: int) -> None:
    shape = IMAGENET if space in PAPER else SHAPE
    candidate = draw_candidate(space, generator(seed))
    for gene in space.genes:
        if gene.name not in candidate or gene.kind == "depth":
            continue
        costs = [cost.macs(space.plan({**candidate, gene.name: option}, shape)) for option in gene.options]
        assert costs == sorted(costs)
        if gene.name != "stem.middle.width" or space not in PAPER:  # 0.65 and 0.8 of 32 round to 24
            assert len(set(costs)) == len(costs)


@pytest.mark.parametrize("space", [*PAPER, *TINY], ids=NAMES)
@settings(max_examples=3)
@given(seed=seeds)
def test_counted_as_the_extracted_network_counts(space: Any, seed: int) -> None:
    shape = IMAGENET if space in PAPER else SHAPE
    plan = space.plan(draw_candidate(space, generator(seed)), shape)
    with torch.device("meta"):
        network = Network(plan)
    assert cost.macs(plan) == flops(network, (shape.input[0], plan.resolution, plan.resolution)) // 2
    assert cost.parameters(plan) == parameters(network)
    assert Plan.read(plan.data()) == plan


def test_depth_costs() -> None:
    for space in TINY:
        low = dict(space.smallest)
        deeper = replay(space, {**low, "stage1.depth": space.genes[1].options[-1]} | _further(space, low))
        assert cost.macs(space.plan(deeper, SHAPE)) > cost.macs(space.plan(low, SHAPE))


def _further(space: Any, low: dict[str, Any]) -> dict[str, Any]:
    depth = next(gene for gene in space.genes if gene.name == "stage1.depth").options[-1]
    return {
        "stage1.depth": depth,
        **{
            gene.name: gene.options[0]
            for gene in space.genes
            if gene.name.startswith("stage1.block") and gene.name not in low
        },
    }


def test_a_candidate_of_another_space_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"stage1\.block1\.expand is 5"):
        TINY[0].plan({**TINY[0].largest, "stage1.block1.expand": 5}, SHAPE)
    with pytest.raises(SpaceError, match=r"stage1\.depth is 9"):
        TINY[0].plan({**TINY[0].largest, "stage1.depth": 9}, SHAPE)
    with pytest.raises(SpaceError, match="ofa-resnet50d"):
        TINY[2].plan(TINY[0].largest, SHAPE)


def test_odd_kernels_alone() -> None:
    with pytest.raises(ValueError, match="odd"):
        OfaMobileNetV3.Options(kernels=(3, 4))


def test_kernels_that_no_map_has_room_for_are_left_out() -> None:
    space = OfaMobileNetV3(OfaMobileNetV3.Options(preset="tiny", resolutions=(4,)))
    assert space.stage_kernels == ((3,), (3,))


def test_equal_inner_widths_are_refused() -> None:
    with pytest.raises(SpaceError, match="leave one"):
        OfaResNet50D(OfaResNet50D.Options(preset="tiny", expansions=(0.2, 0.25))).size()


def test_another_schema_is_refused() -> None:
    with pytest.raises(SpaceError, match="schema"):
        Plan.read({"schema": 99})


@pytest.mark.parametrize("space", TINY, ids=TINY_NAMES)
def test_draws_are_uniform(space: Any) -> None:
    rng = generator(1)
    seen: dict[str, Counter[Any]] = {}
    for _ in range(4000):
        for name, value in draw_candidate(space, rng).items():
            seen.setdefault(name, Counter())[value] += 1
    for gene in space.genes:
        counts = np.array([seen[gene.name][option] for option in gene.options])
        expected = counts.sum() / len(counts)
        # 99.9999 % of chi-square with two degrees of freedom lie below 27.6.
        assert ((counts - expected) ** 2 / expected).sum() < 27.6, gene


def test_channels_are_rounded_to_eights() -> None:
    assert [rounded(width) for width in (1, 12, 19.2, 20.8, 67)] == [8, 16, 24, 24, 64]
