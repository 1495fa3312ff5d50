from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrate.plugins.tasks._splits import SplitOptions, by_count, by_fraction, deal

sizes = st.lists(st.integers(1, 60), min_size=1, max_size=8).map(np.array)
seeds = st.integers(0, 2**40)


@st.composite
def shares(draw):
    fractions = draw(st.lists(st.floats(0.01, 0.3), min_size=1, max_size=3))
    return draw(sizes), fractions


def labels_of(sizes, seed=0):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(seed).permutation(labels)


@given(shares())
def test_fractions_are_met_within_one_sample_of_each_class(drawn):
    sizes, fractions = drawn
    counts = by_fraction(sizes, fractions)
    assert (counts >= 0).all()
    rest = sizes - counts.sum(axis=0)
    exact = np.outer([*fractions, 1 - sum(fractions)], sizes)
    assert (np.abs(np.vstack([counts, rest]) - exact) <= 1 + 1e-5).all()


def test_a_fraction_of_a_round_number_is_met_exactly():
    counts = by_fraction(np.array([10, 30, 5]), [0.1, 0.2])  # 0.1 + 0.2 is above 0.3
    assert counts.tolist() == [[1, 3, 1], [2, 6, 1]]  # of the 5: half up to 0.5 and 1.5


@given(sizes, st.data())
def test_a_count_is_met_exactly_and_each_class_within_one_sample(sizes, data):
    total = int(sizes.sum())
    count = data.draw(st.integers(0, total))
    counts = by_count(sizes, count)
    assert counts.sum() == count
    assert (counts <= sizes).all()
    assert (np.abs(counts - count * sizes / total) < 1).all()


@given(shares(), seeds)
def test_parts_are_disjoint_cover_everything_and_have_the_counts_asked_for(drawn, seed):
    sizes, fractions = drawn
    labels, counts = labels_of(sizes), by_fraction(sizes, fractions)
    parts = deal(labels, counts, seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    for part, wanted in zip(parts, [*counts, sizes - counts.sum(axis=0)], strict=True):
        assert np.bincount(labels[part], minlength=len(sizes)).tolist() == wanted.tolist()


@given(seeds)
def test_the_seed_alone_decides(seed):
    labels = labels_of([30, 40, 50])
    counts = by_fraction(np.array([30, 40, 50]), [0.2, 0.2])
    first, again, other = (deal(labels, counts, s) for s in (seed, seed, seed + 1))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not any(set(a) == set(b) for a, b in zip(first, other, strict=True))


@given(seeds, st.integers(0, 20), st.integers(0, 20))
def test_growing_the_last_counted_part_moves_nothing_else(seed, small, more):
    labels, sizes = labels_of([30, 40]), np.array([30, 40])
    held = by_count(sizes, 10)
    grown = [
        deal(labels, np.stack([held, by_count(sizes - held, count)]), seed) for count in (small, small + more)
    ]
    assert set(grown[0][0]) == set(grown[1][0])
    assert len(grown[1][1]) == small + more


def test_the_draw_is_the_same_for_good():
    # Written down once: a change would silently give every user other splits.
    parts = deal(np.array([0, 1] * 6), np.array([[2, 2], [1, 1]]), seed=7)
    assert [part.tolist() for part in parts] == [[6, 3, 11, 4], [10, 9], [0, 2, 8, 7, 5, 1]]


def test_parts_are_not_in_the_order_of_their_classes():
    labels = np.repeat([0, 1], 50)
    first, rest = deal(labels, np.array([[20, 20]]), seed=0)
    for part in (first, rest):
        assert 0 < labels[part][: len(part) // 2].sum() < len(part) // 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"validation": 0.5, "test": 0.5},
        {"validation": 0},
        {"test": 1},
        {"validation": -0.1},
        {"seed": -1},
        {"sed": 1},
    ],
)
def test_options_that_leave_nothing_are_refused(wrong):
    with pytest.raises(ValidationError):
        SplitOptions.model_validate(wrong)
