"""Straggler models: how many patterns they admit, and that past and whole pattern agree."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from orchestrate.plugins.gradient_coding.stragglers import (
    Arbitrary,
    Bursty,
    BurstyOrPerRound,
    Model,
    PerRound,
    Window,
)
from orchestrate.plugins.gradient_coding.stragglers.generators import conforming
from tests.plugins.gradient_coding.harness import masks

# (model, workers, rounds, patterns), counted by an independent brute force
COUNTS = [
    (Bursty(1, 2, 2), 4, 2, 33),
    (Bursty(1, 2, 2), 4, 3, 191),
    (Bursty(1, 2, 2), 4, 4, 797),
    (Bursty(1, 2, 2), 4, 5, 3931),
    (Bursty(1, 2, 1), 4, 5, 181),
    (Bursty(1, 2, 3), 4, 5, 18271),
    (Bursty(1, 2, 4), 4, 5, 28561),
    (Bursty(2, 3, 2), 4, 4, 591),
    (Bursty(2, 3, 2), 4, 5, 2943),
    (Bursty(2, 3, 2), 4, 6, 11983),
    (Bursty(2, 3, 4), 4, 5, 50625),
    (Bursty(1, 3, 2), 3, 6, 847),
    (Arbitrary(2, 4, 2), 4, 5, 2431),
    (BurstyOrPerRound(Bursty(1, 2, 2), 1), 4, 5, 5939),
    (BurstyOrPerRound(Bursty(2, 3, 2), 1), 4, 6, 25927),
]


def admitted(model: Model, n: int, rounds: int) -> int:
    """Patterns that the causal checker lets pass."""
    sets = masks(n)

    def grow(past: list[np.ndarray]) -> int:
        window = model.begin(n)
        for mask in past:
            window.add(mask)
        fitting = [mask for mask in sets if window.admits(mask)]
        if len(past) + 1 == rounds:
            return len(fitting)
        return sum(grow([*past, mask]) for mask in fitting)

    return grow([])


@pytest.mark.parametrize(("model", "n", "rounds", "patterns"), COUNTS)
def test_number_of_patterns(model: Model, n: int, rounds: int, patterns: int) -> None:
    assert admitted(model, n, rounds) == patterns


def test_a_window_one_round_short_admits_too_much() -> None:
    assert admitted(_Short(1, 3, 2), 3, 4) > admitted(Bursty(1, 3, 2), 3, 4)


class _Short(Bursty):
    def begin(self, n: int) -> Window:
        return Bursty(self.B, self.W - 1, self.lam).begin(n)


@pytest.mark.parametrize(
    "model",
    [
        PerRound(1),
        Bursty(1, 2, 1),
        Bursty(1, 3, 2),
        Bursty(2, 3, 1),
        Bursty(2, 4, 3),
        Arbitrary(1, 3, 2),
        Arbitrary(2, 3, 3),
        Arbitrary(0, 1, 3),
        BurstyOrPerRound(Bursty(1, 3, 2), 1),
    ],
)
def test_past_and_whole_pattern_agree(model: Model) -> None:
    n, rounds = 3, 4
    for rows in itertools.product(masks(n), repeat=rounds):
        pattern = np.array(rows)
        window = model.begin(n)
        causal = True
        for row in pattern:
            causal = causal and window.admits(row)
            window.add(row)
        assert model.holds(pattern) == causal


def test_bursts_by_pairs_of_rounds() -> None:
    """Two straggling rounds of a worker are at most B - 1 or at least W apart."""
    model = Bursty(2, 4, 1)
    for rounds in itertools.product([False, True], repeat=8):
        when = np.flatnonzero(rounds)
        apart = [b - a for a, b in itertools.combinations(when, 2)]
        assert model.holds(np.array(rounds)[:, None]) == all(gap < 2 or gap >= 4 for gap in apart)


@pytest.mark.parametrize("model", [Bursty(2, 3, 23), Arbitrary(3, 8, 40), PerRound(5)])
def test_generated_patterns_conform(model: Model) -> None:
    pattern = conforming(model, 40, 256, 0.3, np.random.default_rng(0))
    assert model.holds(pattern)
    assert pattern.any()


def test_impossible_models() -> None:
    for B, W, lam in ((0, 2, 1), (2, 2, 1), (1, 2, -1)):
        with pytest.raises(ValueError, match="1 <= B < W"):
            Bursty(B, W, lam)
    with pytest.raises(ValueError, match="0 <= N < W"):
        Arbitrary(3, 3, 1)
