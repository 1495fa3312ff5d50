"""Quality indicators against hand values, their definitions, and moocore."""

from __future__ import annotations

import math
from typing import Any

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orchestrate.core import Candidate, Goal
from orchestrate.core.indicators import (
    Scale,
    candidate_distances,
    coverage,
    hypervolume_sharpe_ratio,
    igd,
    igd_plus,
    pc_entropy,
    preferences,
    r2,
    reward_percentile,
    top_k_diversity,
    top_k_reward,
)
from orchestrate.core.scalarisation import simplex

FRONT = np.array([[1, 3], [2, 2], [3, 1]]) / 4
REFERENCE = np.array([[0.25, 0.75], [0.5, 0.5], [0.75, 0.25], [0.6, 0.6]])
TABLES = st.integers(2, 4).flatmap(
    lambda goals: arrays(float, st.tuples(st.integers(1, 12), st.just(goals)), elements=st.floats(0, 1))
)


def test_hand_values() -> None:
    # 0, 0, 0, and sqrt 0.02 to (0.6, 0.6), over four.
    assert igd_plus(FRONT, REFERENCE) == pytest.approx(math.sqrt(0.02) / 4)
    assert igd(FRONT, REFERENCE) == pytest.approx(math.sqrt(0.02) / 4)
    # Preferences (0, 1) … (1, 0): 0.25, 0.25 * 0.75, 0.25, 0.1875, 0.25.
    assert r2(FRONT, simplex(2, 4)) == pytest.approx((3 * 0.25 + 2 * 0.1875) / 5)
    # The same sum by the weights' Frobenius norm, as some code divides.
    assert r2(FRONT, simplex(2, 4)) * 5 / np.linalg.norm(simplex(2, 4)) == pytest.approx(0.580948, abs=1e-6)


def test_nothing_is_infinitely_far() -> None:
    nothing = np.zeros((0, 2))
    assert r2(nothing, simplex(2, 4)) == math.inf
    assert igd_plus(nothing, REFERENCE) == math.inf
    assert igd(nothing, REFERENCE) == math.inf
    assert pc_entropy(nothing, REFERENCE) == 0.0
    assert hypervolume_sharpe_ratio(nothing) == 0.0
    assert coverage(nothing, REFERENCE, simplex(2, 4)) == 0.0


@given(TABLES)
def test_r2_is_its_definition(table: np.ndarray) -> None:
    weights = preferences(table.shape[1])
    total = 0.0
    for weight in weights:
        total += min(max(w * abs(1 - q) for w, q in zip(weight, point, strict=True)) for point in table)
    assert r2(table, weights) == pytest.approx(total / len(weights))


@given(arrays(float, st.tuples(st.integers(1, 12), st.just(2)), elements=st.floats(0, 1)))
def test_many_preferences_come_near_the_exact_r2(table: np.ndarray) -> None:
    exact = moocore.r2_exact(table, ref=np.ones(2), maximise=True)
    assert r2(table, simplex(2, 500)) == pytest.approx(exact, abs=2e-3)


@given(TABLES)
def test_igd_plus_is_its_definition(table: np.ndarray) -> None:
    reference = np.vstack([table[:3], np.full(table.shape[1], 0.8)])
    total = sum(min(math.dist(np.maximum(z - a, 0), 0 * a) for a in table) for z in reference)
    assert igd_plus(table, reference) == pytest.approx(total / len(reference), abs=1e-12)


@given(TABLES)
def test_igd_is_its_definition(table: np.ndarray) -> None:
    reference = np.vstack([table[:3], np.full(table.shape[1], 0.8)])
    total = sum(min(math.dist(z, a) for a in table) for z in reference)
    assert igd(table, reference) == pytest.approx(total / len(reference), abs=1e-12)


def test_igd_counts_what_is_better_than_the_front_as_far_from_it() -> None:
    better = np.array([[0.9, 0.9]])
    assert igd_plus(better, np.array([[0.6, 0.5]])) == 0.0
    assert igd(better, np.array([[0.6, 0.5]])) == pytest.approx(0.5)


def test_entropy_over_the_parts_of_a_front() -> None:
    # Two points near the first end, one near the middle, none near the other end.
    points = np.array([[0.3, 0.7], [0.2, 0.6], [0.5, 0.45]])
    assert pc_entropy(points, FRONT) == pytest.approx(math.log(3) - 2 / 3 * math.log(2))
    assert pc_entropy(np.tile(FRONT, (4, 1)), FRONT) == pytest.approx(math.log(3))
    assert pc_entropy(FRONT[:1], FRONT) == 0.0


def test_the_sharpe_ratio_of_one_point_and_of_two_by_hand() -> None:
    # One point of volume p: mean p, variance p (1 - p).
    assert hypervolume_sharpe_ratio(FRONT[1:2]) == pytest.approx(math.sqrt(0.25 / 0.75))
    # The ends: p = 3/16 each, 1/16 in common. In equal parts: mean 3/16, variance (p + 1/16) / 2 - p^2.
    ends = FRONT[[0, 2]]
    equal = (3 / 16) / math.sqrt((3 / 16 + 1 / 16) / 2 - (3 / 16) ** 2)
    assert hypervolume_sharpe_ratio(ends) == pytest.approx(equal)
    assert hypervolume_sharpe_ratio(np.array([[1.0, 1.0], [0.5, 0.5]])) == math.inf
    assert hypervolume_sharpe_ratio(np.array([[0.0, 1.0], [1.0, 0.0]])) == 0.0


@given(
    arrays(float, st.tuples(st.integers(1, 8), st.integers(2, 4)), elements=st.floats(0.05, 0.95)),
    st.randoms(use_true_random=False),
)
def test_no_mixture_has_a_larger_ratio(table: np.ndarray, random: Any) -> None:
    found = hypervolume_sharpe_ratio(table)
    gains = table.prod(axis=1)
    both = np.array([[math.prod(map(min, one, other)) for other in table] for one in table])
    for _ in range(20):
        shares = np.array([random.random() for _ in table])
        deviation = math.sqrt(max(shares @ (both - np.outer(gains, gains)) @ shares, 1e-300))
        assert gains @ shares / deviation <= found * (1 + 1e-6)


@given(TABLES)
def test_what_is_dominated_or_repeated_earns_nothing(table: np.ndarray) -> None:
    table = np.clip(table, 0.05, 0.95)
    more = np.vstack([table, table[::-1], table * 0.9])
    assert hypervolume_sharpe_ratio(more) == pytest.approx(hypervolume_sharpe_ratio(table), rel=1e-5)


@given(TABLES, st.randoms(use_true_random=False))
def test_dominated_and_repeated_points_and_order_change_nothing(table: np.ndarray, random: object) -> None:
    more = np.vstack([table, table[::-1], table * 0.9])
    weights, reference = preferences(table.shape[1]), np.ones((1, table.shape[1]))
    assert r2(more, weights) == pytest.approx(r2(table, weights))
    assert igd_plus(more, reference) == pytest.approx(igd_plus(table, reference))


def test_coverage_counts_the_preferences_that_are_served() -> None:
    weights = simplex(2, 2)  # (0, 1), (1/2, 1/2), (1, 0)
    front = np.array([[1.0, 0.5], [0.8, 0.8], [0.5, 1.0]])
    assert coverage(front, front, weights) == 1.0
    assert coverage(front[:1], front, weights) == pytest.approx(1 / 3)
    assert coverage(front[:2], front, weights) == pytest.approx(2 / 3)
    assert coverage(front[:2] - 0.005, front, weights) == pytest.approx(2 / 3)


def test_top_k_by_hand() -> None:
    qualities = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 0.8]])
    weights = np.array([[1.0, 0.0], [0.5, 0.5]])
    # Best two: 1 and 0.5; then 0.5 and (of 0.5, 0.5, 0.4) 0.5.
    assert top_k_reward(qualities, weights, 2) == pytest.approx((0.75 + 0.5) / 2)
    candidates = [Candidate({"a": a, "b": b}) for a, b in ((0, 0), (0, 1), (1, 1))]
    assert top_k_diversity(qualities, weights, candidates, 2) == pytest.approx(0.5)
    assert top_k_diversity(qualities, weights, candidates, 3) == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert top_k_diversity(qualities[:1], weights, candidates[:1], 3) == 0.0
    # Two that propose the same are no diversity, and count as two.
    assert top_k_diversity(qualities, weights[:1], [candidates[0], candidates[0], candidates[2]], 2) == 0.0


def test_percentiles_of_rewards_by_hand() -> None:
    qualities = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 0.8]])
    weights = np.array([[1.0, 0.0], [0.5, 0.5]])
    # Rewards 0, 0.5, 1 and 0.4, 0.5, 0.5.
    assert reward_percentile(qualities, weights) == pytest.approx(0.5)
    assert reward_percentile(qualities, weights, 25) == pytest.approx((0.25 + 0.45) / 2)
    assert reward_percentile(qualities, weights, 0) == pytest.approx(0.2)
    assert reward_percentile(qualities, weights, 100) == top_k_reward(qualities, weights, 1)
    assert reward_percentile(qualities[:0], weights) == 0.0


def test_candidates_differ_in_the_choices_that_either_makes() -> None:
    one = Candidate({"a": 1, "b": "x"})
    other = Candidate({"a": 1, "b": "y", "c": 2})
    typed = Candidate({"a": True, "b": "x"})
    table = candidate_distances([one, other, typed])
    assert table == pytest.approx(np.array([[0, 2 / 3, 1 / 2], [2 / 3, 0, 1], [1 / 2, 1, 0]]))
    assert candidate_distances([Candidate(), Candidate()]).tolist() == [[0, 0], [0, 0]]


def test_the_scale_is_that_of_its_corners() -> None:
    goals = (Goal("accuracy", "maximize"), Goal("latency", "minimize"), Goal("size", None, maximum=3))
    scale = Scale(ideal=np.array([-0.9, 10.0]), worst=np.array([-0.5, 30.0]))
    points = [
        {"accuracy": 0.7, "latency": 15.0, "size": 1.0},
        {"accuracy": 0.9, "latency": 40.0, "size": 1.0},
    ]
    assert scale.qualities(points, goals) == pytest.approx(np.array([[0.5, 0.75], [1.0, -0.5]]))
    flat = Scale(ideal=np.array([1.0, 1.0]), worst=np.array([1.0, 2.0]))
    assert flat.qualities([{"accuracy": -1.0, "latency": 1.0}], goals).tolist() == [[1.0, 1.0]]
