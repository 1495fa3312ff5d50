"""The dynamic programme against brute force and against an exact front without buckets."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrate.plugins.lgreco.planner import capped, plan


def brute(errors, costs, budget):
    """(cost, error) of the best of all assignments; None where none is within the budget."""
    found = None
    for choice in itertools.product(*(range(len(row)) for row in errors)):
        error = sum(row[k] for row, k in zip(errors, choice, strict=True))
        cost = sum(row[k] for row, k in zip(costs, choice, strict=True))
        if error <= budget and (found is None or (cost, error) < found):
            found = (cost, error)
    return found


def front(errors, costs, budget):
    """Least cost within the budget, exactly: the non-dominated pairs of each prefix of the layers."""
    pairs = [(0.0, 0.0)]
    for row, prices in zip(errors, costs, strict=True):
        grown = sorted((e + x, c + p) for e, c in pairs for x, p in zip(row, prices, strict=True))
        pairs = []
        for error, cost in grown:
            if error <= budget and (not pairs or cost < pairs[-1][1]):
                pairs.append((error, cost))
    return min((cost for _, cost in pairs), default=math.inf)


def total(table, choices):
    return math.fsum(row[k] for row, k in zip(table, choices, strict=True))


def test_it_is_brute_force_where_errors_are_whole_buckets():
    rng = np.random.default_rng(0)
    programmed = infeasible = 0
    for _ in range(1200):
        layers, budget = int(rng.integers(1, 6)), int(rng.integers(5, 60))
        sizes = rng.integers(1, 5, layers)
        errors = [rng.integers(0, 25, size).astype(float) for size in sizes]
        costs = [rng.integers(1, 30, size).astype(float) for size in sizes]
        reference = [int(rng.integers(size)) for size in sizes]
        made = plan(errors, costs, reference, budget=float(budget), buckets=budget)
        assert (made.error, made.cost) == (total(errors, made.choices), total(costs, made.choices))
        best = brute(errors, costs, budget)
        if best is None:
            infeasible += 1
            assert made.reason == "uniform"
            assert made.choices.tolist() == reference
        elif made.reason == "dp":
            programmed += 1
            assert (made.cost, made.error) == best
        else:
            assert made.error <= budget
            assert made.cost == best[0]
    assert programmed > 500
    assert infeasible > 50


def random_table(rng, layers, settings):
    """Errors that fall and costs that rise, of layers of very different sizes."""
    scale = np.exp(rng.normal(0, 1.5, (layers, 1)))
    errors = scale * np.sort(rng.random((layers, settings)))[:, ::-1]
    costs = np.exp(rng.normal(3, 1.5, (layers, 1))) * np.sort(rng.random((layers, settings)))
    return errors, costs, np.full(layers, settings // 2)


def test_between_the_optimum_and_that_of_a_budget_smaller_by_the_rounding():
    rng = np.random.default_rng(1)
    optimal = 0
    for _ in range(300):
        layers, buckets = int(rng.integers(2, 7)), 2000
        errors, costs, reference = random_table(rng, layers, 5)
        made = plan(errors, costs, reference, buckets=buckets)
        assert made.error <= made.budget == pytest.approx(made.uniform_error)
        assert made.cost <= made.uniform_cost
        best = front(errors, costs, made.budget)
        worst = front(errors, costs, made.budget * (1 - layers / buckets))
        assert best <= made.cost * (1 + 1e-12)
        assert made.cost <= min(worst, made.uniform_cost) * (1 + 1e-12)
        optimal += made.cost <= best * (1 + 1e-12)
    assert optimal > 270


def test_cost_falls_with_the_budget():
    errors, costs, reference = random_table(np.random.default_rng(2), 12, 7)
    found = [plan(errors, costs, reference, alpha=alpha) for alpha in (1.0, 1.2, 1.5, 2.0, 4.0, 1e6)]
    assert all(one.cost >= other.cost for one, other in itertools.pairwise(found))
    assert found[-1].cost == pytest.approx(costs.min(1).sum())


def test_a_smaller_budget_is_paid_for():
    errors, costs = [[4.0, 2.0, 1.0]] * 2, [[1.0, 2.0, 4.0]] * 2
    made = plan(errors, costs, [1, 1], alpha=0.5)
    assert made.reason == "dp"
    assert made.choices.tolist() == [2, 2]
    assert made.error == made.budget == 2.0
    assert made.cost > made.uniform_cost  # the reference itself is beyond the budget
    assert plan(errors, costs, [1, 1], alpha=0.0).reason == "uniform"
    exact = [[*row, 0.0] for row in errors]
    assert plan(exact, [[1.0, 2.0, 4.0, 9.0]] * 2, [1, 1], alpha=0.0).choices.tolist() == [3, 3]


@given(st.integers(0, 2**32 - 1), st.integers(-8, 8))
def test_scale_does_not_matter(seed, power):
    errors, costs, reference = random_table(np.random.default_rng(seed), 5, 4)
    made = plan(errors, costs, reference, buckets=500)
    scaled = plan(errors * 2.0**power, costs, reference, buckets=500)
    assert scaled.choices.tolist() == made.choices.tolist()
    assert scaled.error == made.error * 2.0**power


def test_a_layer_twice_is_chosen_the_same_twice_where_nothing_else_is_as_cheap():
    errors, costs, reference = (
        [[4.0, 2.0, 1.0], [3.0, 2.0, 0.0]],
        [[1.0, 2.0, 4.0], [9.0, 15.0, 30.0]],
        [1, 1],
    )
    once = plan(errors, costs, reference, buckets=8)
    twice = plan(errors * 2, costs * 2, reference * 2, buckets=8)
    assert twice.choices.tolist() == once.choices.tolist() * 2


def test_one_setting_a_layer_is_uniform():
    made = plan([[0.3], [0.2]], [[5.0], [6.0]], [0, 0])
    assert made.reason == "uniform"
    assert made.choices.tolist() == [0, 0]
    assert (made.cost, made.error) == (11.0, 0.5)


def test_equal_costs_are_settled_by_error():
    made = plan([[3.0, 1.0, 2.0], [5.0, 4.0, 9.0]], [[7.0, 7.0, 7.0], [9.0, 5.0, 5.0]], [0, 0], buckets=8)
    assert made.choices.tolist() == [1, 1]


def test_exact_settings_use_no_budget():
    # Ten layers, ten buckets, and one layer that needs all of them.
    errors, costs = [[5.0, 10.0, 0.0]] + [[5.0 / 9, 9.0, 0.0]] * 9, [[5.0, 1.0, 9.0]] + [[5.0, 9.0, 4.0]] * 9
    made = plan(errors, costs, [0] * 10, buckets=10)
    assert made.choices.tolist() == [1] + [2] * 9
    assert made.error == made.budget == pytest.approx(10.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_what_is_not_finite_is_forbidden(bad):
    errors, costs = [[bad, 1.0, 0.5], [2.0, 1.0, 0.5]], [[1.0, 4.0, 6.0], [1.0, 4.0, 6.0]]
    made = plan(errors, costs, [1, 1], alpha=1.25)
    assert made.choices.tolist() == [2, 0]
    assert plan(costs, errors, [1, 1], budget=100.0).choices.tolist() == [2, 2]


def test_a_reference_that_is_not_finite_leaves_no_budget():
    made = plan([[math.nan, 1.0]], [[1.0, 2.0]], [0])
    assert made.reason == "uniform"
    assert made.choices.tolist() == [0]
    assert math.isnan(made.budget)


def test_no_error_at_all_is_a_budget_of_zero():
    made = plan([[0.0, 0.0, 1.0]], [[5.0, 3.0, 1.0]], [0])
    assert made.reason == "dp"
    assert made.choices.tolist() == [1]


def test_no_layers():
    made = plan([], [], [])
    assert len(made.choices) == 0
    assert (made.cost, made.reason) == (0.0, "uniform")


def test_a_cap_spares_a_layer():
    found = capped([0.1, 0.5, 0.9, math.nan], norm=1.0, reference=0, limit=0.6)
    assert found.tolist() == [0.1, 0.5, math.inf, math.inf]
    kept = capped([0.1, 0.5, 0.9], norm=1.0, reference=1, limit=0.2)
    assert kept.tolist() == [0.1, 0.5, math.inf]
    errors, costs, reference = np.array([[0.9, 0.3], [4.0, 3.0]]), [[1.0, 9.0], [50.0, 60.0]], [1, 1]
    free = plan(errors, costs, reference, alpha=1.2, buckets=100)
    assert free.choices.tolist() == [0, 1]
    spared = plan([capped(errors[0], 1.0, 1, 0.5), errors[1]], costs, reference, alpha=1.2, buckets=100)
    assert spared.choices.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("errors", "costs", "reference", "text"),
    [
        ([[1.0]], [[1.0], [2.0]], [0], "of 1 layers"),
        ([[1.0, 2.0]], [[1.0]], [0], "errors of shape"),
        ([[1.0]], [[1.0]], [0, 0], "as many references"),
        ([[1.0]], [[1.0]], [1], "its reference is 1"),
        ([[]], [[]], [0], "0 settings"),
    ],
)
def test_tables_that_do_not_fit(errors, costs, reference, text):
    with pytest.raises(ValueError, match=text):
        plan(errors, costs, reference)
