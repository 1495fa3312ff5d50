"""The phase graph: what is elastic when, what is drawn, and mistakes that are found before anything runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrate.core import SpecError
from orchestrate.core.seeds import generator
from orchestrate.plugins.ofa import cost
from orchestrate.plugins.ofa.base import OnceForAll
from orchestrate.plugins.ofa.mobile import OfaMobileNetV3
from orchestrate.plugins.ofa.options import TrainSupernetOptions, check_space
from orchestrate.plugins.ofa.phases import (
    PhaseOptions,
    corners,
    draw_round,
    method_phases,
    resolve,
)
from orchestrate.plugins.tasks.digits import Digits
from tests.plugins.ofa.conftest import SHAPE

METHODS = ["progressive-shrinking", "sandwich", "warm-start", "scratch", "scratch-distilled"]


def phase(name: str, **options: Any) -> PhaseOptions:
    return PhaseOptions.model_validate({"name": name, "epochs": 1, **options})


def mobile() -> OnceForAll:
    return OfaMobileNetV3(OfaMobileNetV3.Options(preset="tiny"))


def test_progressive_shrinking_is_the_papers() -> None:
    space = OfaMobileNetV3()
    phases = method_phases(space, "progressive-shrinking", 180, 2.6)
    assert [(one.name, one.epochs, one.subnets) for one in phases] == [
        ("full", 180, 1),
        ("kernel", 125, 1),
        ("depth-2", 25, 2),
        ("depth", 125, 2),
        ("expand-2", 25, 4),
        ("expand", 125, 4),
    ]
    assert [dict(one.elastic) for one in phases[1:]] == [
        {"kernel": 3},
        {"depth": 2},
        {"depth": 3},
        {"expand": 2},
        {"expand": 3},
    ]
    assert all(one.teacher == "full" for one in phases[1:])
    assert [one.sort for one in phases] == [(), (), (), (), ("inner",), ("inner",)]


def test_what_is_elastic_adds_up(space: OnceForAll) -> None:
    placed = resolve(space, method_phases(space, "progressive-shrinking", 4, 0.1))
    last = placed[-1].offer
    assert all(last.values[gene.name] == gene.options for gene in space.genes)
    for one in placed:
        assert one.offer.largest == space.largest
        for _ in range(20):
            candidate = one.offer.draw(generator(0))
            assert all(one.offer.offers(name, value) for name, value in candidate.items())
    first = placed[0].offer
    assert {gene.name for gene in space.genes if len(first.values[gene.name]) > 1} == {"resolution"}


@pytest.mark.parametrize("method", METHODS)
def test_methods_spend_alike(space: OnceForAll, method: Any) -> None:
    def passes(name: Any) -> int:
        own = list(method_phases(space, name, 20, 0.1))
        if name == "scratch-distilled":
            own = own[1:]  # its teacher's come on top
        return sum(one.epochs * one.subnets for one in own)

    assert abs(passes(method) - passes("progressive-shrinking")) <= 4
    resolve(space, method_phases(space, method, 20, 0.1))


def test_a_round_has_one_resolution_and_depends_on_its_key(space: OnceForAll) -> None:
    offer = resolve(space, method_phases(space, "scratch", 4, 0.1))[0].offer
    for sampler in ("uniform", "sandwich", "balanced", "largest"):
        options = phase("p", subnets=4, sampler=sampler)
        one = draw_round(offer, options, SHAPE, generator(3))
        assert one == draw_round(offer, options, SHAPE, generator(3))
        assert len(one) == 4
        assert len({space.resolution(candidate) for candidate in one}) == 1
    sandwich = draw_round(offer, phase("p", subnets=4, sampler="sandwich"), SHAPE, generator(3))
    at = offer.fixed(space.resolution(sandwich[0]))
    assert sandwich[:2] == [at.largest, at.smallest]


def digests() -> list[str]:
    whole = phase("p", subnets=4, elastic={"kernel": "all", "depth": "all", "expand": "all"})
    [placed] = resolve(mobile(), [whole])
    return [one.digest for one in draw_round(placed.offer, whole, SHAPE, generator(5))]


def test_another_process_draws_the_same_round() -> None:
    code = "from tests.plugins.ofa.test_phases import digests; print(*digests())"
    other = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert other.stdout.split() == digests()


def test_a_phase_draws_each_gene_uniformly(space: OnceForAll) -> None:
    offer = resolve(space, method_phases(space, "progressive-shrinking", 4, 0.1))[-2].offer
    rng, seen = generator(2), dict[str, Counter[Any]]()
    for _ in range(10_000):
        for name, value in offer.draw(rng).items():
            seen.setdefault(name, Counter())[value] += 1
    for name, counts in seen.items():
        options = offer.values[name]
        assert set(counts) <= set(options)
        expected = counts.total() / len(options)
        # 99.9999 % of chi-square with two degrees of freedom lie below 27.6.
        assert sum((counts[option] - expected) ** 2 / expected for option in options) < 27.6, name


def test_balanced_draws_reach_the_small_ones() -> None:
    space = mobile()
    offer = resolve(space, method_phases(space, "scratch", 4, 0.1))[0].offer

    def spread(sampler: Any) -> float:
        drawn = [
            cost.macs(
                space.plan(draw_round(offer, phase("p", sampler=sampler), SHAPE, generator(i))[0], SHAPE)
            )
            for i in range(100)
        ]
        return max(drawn) - min(drawn)

    assert spread("balanced") > spread("uniform")


def test_patterns_restrict_genes() -> None:
    space = mobile()
    [placed] = resolve(space, [phase("p", elastic={"kernel": "all"}, only={"stage1.*.kernel": (3, 5)})])
    assert placed.offer.values["stage1.block1.kernel"] == (3, 5)
    assert placed.offer.values["stage2.block1.kernel"] == (3, 5, 7)


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([phase("a"), phase("a")], "second phase"),
        ([phase("a", teacher="b")], "teacher 'b' is no earlier phase"),
        ([phase("a", after="b")], "after 'b' is no earlier phase"),
        ([phase("a", elastic={"kernels": 2})], "no elastic 'kernels'"),
        ([phase("a", sort=["outer"])], "no widths to sort"),
        ([phase("a", only={"stage1.*.kernel": (4,)})], "no value is left"),
    ],
)
def test_mistakes_are_found(phases: list[PhaseOptions], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        resolve(mobile(), phases)


def test_corner_networks(space: OnceForAll) -> None:
    found = corners(space)
    assert len(found) == 8
    assert list(found.values())[-1] == space.largest
    macs = [cost.macs(space.plan(candidate, SHAPE)) for candidate in found.values()]
    assert min(macs) == macs[0]
    assert max(macs) == macs[-1]
    assert len({space.resolution(candidate) for candidate in found.values()}) == 1


def test_the_preset_must_fit_the_images() -> None:
    with pytest.raises(SpecError, match="preset"):
        check_space("ofa-train", OfaMobileNetV3(), Digits())
    from orchestrate.plugins.nasbench.space import NasBench201

    with pytest.raises(SpecError, match="Once-for-All"):
        check_space("ofa-train", NasBench201(), Digits())


def test_decay_spares_norms_by_default() -> None:
    assert not TrainSupernetOptions().decay_norm_and_bias
