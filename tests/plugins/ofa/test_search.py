"""The search keeps its limits, never loses ground, and finds the best where the best is known."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrate.core import Candidate, SpecError, enumerate_candidates, replay
from orchestrate.plugins.ofa.mobile import OfaMobileNetV3
from orchestrate.plugins.ofa.search import CostModel, InfeasibleError, Limits, check_limits, search
from tests.plugins.ofa.conftest import SHAPE, SPACES

SMALL = OfaMobileNetV3(
    OfaMobileNetV3.Options(
        preset="tiny", resolutions=(8,), depths=(1, 2), kernels=(3, 5), expansions=(2, 3, 4)
    )
)


def additive(candidate: Candidate) -> float:
    """A fitness to which each gene adds its own part, larger not always better."""
    values = {3: 0.3, 5: 0.1, 2: 0.05, 4: 0.2, 6: 0.1, 7: 0.4, 8: 0.1, 1: 0.0}
    return sum(
        values.get(int(value), 0.0) * (1 + len(name) % 3)
        for name, value in candidate.items()
        if not isinstance(value, bool) and value is not None and not isinstance(value, str)
    )


def fitness(candidates: Sequence[Candidate]) -> list[float]:
    return [additive(candidate) for candidate in candidates]


def test_equals_brute_force() -> None:
    model = CostModel(SMALL, SHAPE)
    everything = list(enumerate_candidates(SMALL))
    assert len(everything) <= 5000
    for share in (0.3, 1.0):
        limits = Limits(macs=share * model.of(SMALL.largest).macs)
        best = max(additive(one) for one in everything if limits.excess(model.of(one)) == 0)
        found = search(model, fitness, limits, population=100, generations=20, seed=1)
        assert additive(found.best) == pytest.approx(best)


@pytest.mark.parametrize("cls", SPACES, ids=lambda cls: cls.name)
@settings(max_examples=5)
@given(seed=st.integers(0, 1000), share=st.floats(0.01, 1))
def test_every_candidate_is_new_feasible_and_of_the_space(cls: Any, seed: int, share: float) -> None:
    space = cls(cls.Options(preset="tiny"))
    model = CostModel(space, SHAPE)
    low, high = model.of(space.smallest), model.of(space.largest)
    limits = Limits(
        macs=low.macs + share * (high.macs - low.macs),
        parameters=low.parameters + share * (high.parameters - low.parameters),
        memory=high.memory,
    )
    asked: list[Candidate] = []

    def score(candidates: Sequence[Candidate]) -> list[float]:
        asked.extend(candidates)
        return fitness(candidates)

    found = search(model, score, limits, population=20, generations=4, seed=seed)
    assert len(set(asked)) == len(asked) == len(found.ranked)
    assert all(limits.excess(model.of(one)) == 0 for one in asked)
    assert all(replay(space, dict(one)) == one for one in asked)
    assert list(found.progress) == sorted(found.progress)
    assert found.progress[0] == max(map(additive, asked[:20]))
    assert additive(found.best) == found.progress[-1] == max(map(additive, asked))
    assert search(model, fitness, limits, population=20, generations=4, seed=seed) == found


@pytest.mark.parametrize("cls", SPACES, ids=lambda cls: cls.name)
def test_an_impossible_limit_is_answered_at_once(cls: Any) -> None:
    space = cls()  # the paper's own space
    model = CostModel(space, SHAPE)
    begun = time.process_time()
    with pytest.raises(InfeasibleError, match="cheapest has macs") as caught:
        search(model, fitness, Limits(macs=1000))
    assert time.process_time() - begun < 1
    assert caught.value.candidate == space.smallest
    assert caught.value.costs.macs == model.of(space.smallest).macs


def test_the_limit_that_only_the_cheapest_keeps() -> None:
    model = CostModel(SMALL, SHAPE)
    limits = Limits(macs=model.of(SMALL.smallest).macs)
    assert search(model, fitness, limits, population=10, generations=2).best == SMALL.smallest


def test_the_cheapest_by_latency_need_not_be_the_smallest() -> None:
    def slow_small_kernels(plan: Any) -> float:
        return sum(10.0 / layer.kernel for layer in plan.layers if hasattr(layer, "excite"))

    model = CostModel(SMALL, SHAPE, slow_small_kernels)
    cheapest = check_limits(model, Limits(latency_ms=100.0))
    assert all(value == 5 for name, value in cheapest.items() if name.endswith("kernel"))


def test_latency_limits_need_a_table() -> None:
    with pytest.raises(SpecError, match="ofa-profile"):
        check_limits(CostModel(SMALL, SHAPE), Limits(latency_ms=1.0))
