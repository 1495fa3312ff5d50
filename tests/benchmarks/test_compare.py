"""Two samples that differ are told apart; two that don't, are not, at about the promised rate."""

from __future__ import annotations

import numpy as np
import pytest
from _compare import compare, holm, quartiles
from hypothesis import given
from hypothesis import strategies as st

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def test_a_shift_is_seen_with_its_size_and_sign() -> None:
    rng = np.random.default_rng(1)
    found = compare(rng.normal(1, 0.1, 15), rng.normal(1.5, 0.1, 15))
    assert found.low < found.mean < found.high < 0
    assert found.mean == pytest.approx(-0.5, abs=0.1)
    assert found.low < -0.5 < found.high
    assert found.p < 0.001


def test_false_alarms_come_at_about_the_level() -> None:
    rng = np.random.default_rng(2)
    alarms = covered = 0
    for _ in range(60):
        found = compare(rng.normal(0, 1, 10), rng.normal(0, 1, 10))
        alarms += found.p < 0.05
        covered += found.low <= 0 <= found.high
    assert alarms <= 9  # 3 expected; more than 9 by chance once in a thousand
    assert covered >= 46


def test_equal_samples_differ_in_nothing() -> None:
    found = compare([2.0] * 5, [2.0] * 5)
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_p_is_exact_where_all_permutations_are_few() -> None:
    # Of the 20 ways to draw 3 of 6, two are as far apart as 1, 2, 3 against 4, 5, 6.
    assert compare([1, 2, 3], [4, 5, 6]).p == pytest.approx(0.1, abs=0.01)


def test_holm_on_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(P_VALUES)
def test_holm_never_lowers_a_p_value_and_keeps_their_order(values: list[float]) -> None:
    adjusted = holm(values)
    assert all(p <= q <= 1 for p, q in zip(values, adjusted, strict=True))
    order = sorted(range(len(values)), key=values.__getitem__)
    assert [adjusted[index] for index in order] == sorted(adjusted)


def test_quartiles() -> None:
    assert quartiles([1, 2, 3, 4, 5]) == (2, 4)
