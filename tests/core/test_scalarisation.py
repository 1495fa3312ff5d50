"""Scalarisations against hand values and what is known of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrate.core.scalarisation import FLOOR, METHODS, Method, quality, scalarise, simplex


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("weighted-sum", 0.25 * 0.8 + 0.75 * 0.4),
        ("weighted-log-sum", 0.8**0.25 * 0.4**0.75),
        ("tchebycheff", 1 - 0.75 * 0.6),
        ("augmented-tchebycheff", 1 - 0.75 * 0.6 + 0.05 * 0.5),
        # The direction is (1, 3) / sqrt(10); (0.2, 0.6) left lies on it.
        ("boundary-intersection", 1 - math.sqrt(0.4)),
    ],
)
def test_hand_values(method: Method, expected: float) -> None:
    assert scalarise([0.8, 0.4], [0.25, 0.75], method) == pytest.approx(expected)


def test_boundary_intersection_punishes_the_distance_from_the_direction() -> None:
    # (0.4, 0) left: 0.2 along (1, 1), and 0.2 apart, each times sqrt 2.
    expected = 1 - 0.2 * math.sqrt(2) - 5 * 0.2 * math.sqrt(2)
    assert scalarise([0.6, 1.0], [0.5, 0.5], "boundary-intersection") == pytest.approx(expected)


def test_a_quality_is_in_proportion_whichever_way_is_better() -> None:
    assert quality(0.9, worst=0.5, best=1.0) == pytest.approx(0.8)
    assert quality(12.0, worst=20.0, best=10.0) == pytest.approx(0.8)
    assert quality(5.0, worst=20.0, best=10.0) == pytest.approx(1.5)


def test_the_log_sum_bears_a_quality_of_zero() -> None:
    assert scalarise([0.0, 1.0], [0.5, 0.5], "weighted-log-sum") == pytest.approx(math.sqrt(FLOOR))
    assert scalarise([0.0, 1.0], [0.0, 1.0], "weighted-log-sum") == pytest.approx(1.0)


def test_only_the_sum_can_not_prefer_a_concave_part() -> None:
    front = np.array([[1.0, 0.0], [0.4, 0.4], [0.0, 1.0]])
    best = {method: scalarise(front, [0.5, 0.5], method).argmax() for method in METHODS}
    assert best.pop("weighted-sum") != 1
    assert set(best.values()) == {1}


@given(
    st.sampled_from(sorted(set(METHODS) - {"boundary-intersection"})),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=2),
    st.tuples(st.floats(0.05, 1), st.floats(0.05, 1), st.floats(0.05, 1)),
)
def test_better_in_everything_is_never_worth_less(
    method: Method, pair: list[tuple[float, ...]], raw: tuple[float, ...]
) -> None:
    weights = np.array(raw) / sum(raw)
    low, high = np.minimum(*map(np.array, pair)), np.maximum(*map(np.array, pair))
    assert scalarise(high, weights, method) >= scalarise(low, weights, method) - 1e-12


def test_shapes_broadcast() -> None:
    qualities, weights = np.random.default_rng(0).random((7, 3)), simplex(3, 4)
    table = scalarise(qualities[None], weights[:, None])
    assert table.shape == (15, 7)
    assert table[4, 2] == scalarise(qualities[2], weights[4])


@pytest.mark.parametrize(("goals", "divisions"), [(1, 3), (2, 4), (3, 5), (4, 3)])
def test_the_simplex_is_complete(goals: int, divisions: int) -> None:
    points = simplex(goals, divisions)
    assert len(points) == math.comb(divisions + goals - 1, goals - 1) or goals == 1
    assert np.allclose(points.sum(axis=1), 1)
    assert len({tuple(point) for point in points}) == len(points)
    assert np.allclose(points * divisions, np.round(points * divisions))
