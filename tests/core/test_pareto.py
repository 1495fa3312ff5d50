from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrate.core import Goal
from orchestrate.core.pareto import (
    crowding,
    feasible,
    hypervolume,
    losses,
    pareto_indices,
    pareto_ranks,
    reference_point,
    violation,
)

GOALS = (
    Goal("error", "minimize"),
    Goal("gain", "maximize"),
    Goal("cost", None, maximum=5.0),
)
COORDINATE = st.integers(0, 6).map(float)
POINTS = st.lists(
    st.fixed_dictionaries({"error": COORDINATE, "gain": COORDINATE, "cost": COORDINATE}), max_size=12
)
TABLES = (
    st.integers(1, 3)
    .flatmap(
        lambda width: st.lists(st.lists(COORDINATE, min_size=width, max_size=width), min_size=1, max_size=14)
    )
    .map(np.array)
)


def dominates(one: np.ndarray, other: np.ndarray) -> bool:
    return bool((one <= other).all() and (one < other).any())


@given(POINTS)
def test_the_pareto_set_is_what_brute_force_finds(points: list[dict[str, float]]) -> None:
    table = losses(points, GOALS)
    kept = [index for index, point in enumerate(points) if point["cost"] <= 5.0]
    expected = [
        index
        for index in kept
        if not any(dominates(table[other], table[index]) for other in kept)
        and not any((table[other] == table[index]).all() for other in kept if other < index)
    ]
    found = pareto_indices(points, GOALS)
    assert sorted(found) == expected
    assert [points[index]["error"] for index in found] == sorted(points[index]["error"] for index in found)


@given(TABLES)
def test_ranks_are_those_of_peeling_fronts(table: np.ndarray) -> None:
    left, rank = set(range(len(table))), 0
    expected = np.zeros(len(table), dtype=int)
    while left:
        front = {i for i in left if not any(dominates(table[j], table[i]) for j in left)}
        expected[list(front)] = rank
        left, rank = left - front, rank + 1
    assert pareto_ranks(table).tolist() == expected.tolist()


@given(TABLES)
def test_crowding_is_the_gap_between_neighbours(table: np.ndarray) -> None:
    """By the definition, front by front, where no two points share a coordinate."""
    table = table + np.arange(len(table))[:, None] * 1e-3
    ranks = pareto_ranks(table)
    found = crowding(table, ranks)
    for rank in set(ranks.tolist()):
        members = [index for index in range(len(table)) if ranks[index] == rank]
        for index in members:
            total = 0.0
            for column in range(table.shape[1]):
                values = sorted(table[members, column])
                place = values.index(table[index, column])
                if place in {0, len(values) - 1}:
                    total = np.inf
                elif values[-1] > values[0]:
                    total += (values[place + 1] - values[place - 1]) / (values[-1] - values[0])
            assert found[index] == pytest.approx(total)


def test_crowding_bears_equal_points() -> None:
    table = np.array([[1.0, 2.0]] * 4)
    assert not np.isnan(crowding(table, np.zeros(4, dtype=np.int64))).any()


@given(POINTS)
def test_hypervolume_is_the_area_counted_on_a_grid(points: list[dict[str, float]]) -> None:
    corner = [7.0, 0.0]  # error up to 7; gain from 0, in loss form
    inside = [p for p in points if p["cost"] <= 5.0]
    cells = itertools.product(range(7), range(6))
    area = sum(any(p["error"] <= x and p["gain"] >= y + 1 for p in inside) for x, y in cells)
    assert hypervolume(points, GOALS, corner) == pytest.approx(area)


def test_losses_follow_the_goals_senses_and_leave_bounds_out() -> None:
    table = losses([{"error": 1.0, "gain": 2.0, "cost": 3.0}], GOALS)
    assert table.tolist() == [[1.0, -2.0]]
    assert losses([], GOALS).shape == (0, 2)


def test_violation_adds_up_what_is_known() -> None:
    goals = (Goal("a", "minimize", minimum=1.0, maximum=2.0), Goal("b", None, maximum=0.0))
    assert violation({"a": 0.5, "b": 2.0}, goals) == 2.5
    assert violation({"a": 3.0}, goals) == 1.0
    assert violation({}, goals) == 0.0
    assert feasible({"a": 1.0, "b": 0.0}, goals)
    assert not feasible({"a": 1.0, "b": 0.1}, goals)


def test_the_reference_point_is_given_or_a_tenth_beyond_the_worst() -> None:
    goals = (Goal("error", "minimize"), Goal("gain", "maximize", reference=-1.0))
    points = [{"error": 0.0, "gain": 5.0}, {"error": 10.0, "gain": 6.0}]
    assert reference_point(points, goals) == [11.0, 1.0]
    assert reference_point(points[:1], goals) == [pytest.approx(0.1), 1.0]


def test_without_feasible_points_there_is_no_volume() -> None:
    assert hypervolume([], GOALS) == 0.0
    assert hypervolume([{"error": 1.0, "gain": 1.0, "cost": 9.0}], GOALS) == 0.0
    assert pareto_indices([{"error": 1.0, "gain": 1.0, "cost": 9.0}], GOALS) == []
