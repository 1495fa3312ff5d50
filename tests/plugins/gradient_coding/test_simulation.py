"""Virtual time: sums by hand, and the figures that the schemes are known for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orchestrate.core.errors import DataError
from orchestrate.plugins.gradient_coding.codes.counting import Counting
from orchestrate.plugins.gradient_coding.schemes import (
    GradientCoding,
    Multiplexed,
    SelectiveRepetition,
    Uncoded,
)
from orchestrate.plugins.gradient_coding.simulation import Costs, simulate
from orchestrate.plugins.gradient_coding.stragglers.generators import GilbertElliott, Service
from orchestrate.plugins.gradient_coding.stragglers.profile import Profile, fit_slope, read
from orchestrate.plugins.gradient_coding.stragglers.statistics import bursts, describe, fit, scores
from orchestrate.plugins.gradient_coding.waiting import Rule, Wait


def profile(rows: list[list[float]], slope: float = 0.0) -> Profile:
    seconds = np.array(rows)
    return Profile(seconds, np.zeros(seconds.shape), slope)


def made_up(p_slow: float, p_normal: float, slope: float, seed: int, rounds: int = 484) -> Profile:
    rng = np.random.default_rng(seed)
    return Service(slope=slope).profile(GilbertElliott(p_slow, p_normal).pattern(rounds, 256, rng), rng)


def test_three_rounds_by_hand() -> None:
    done = simulate(Uncoded(2), profile([[1, 2], [3, 1], [1, 1]], slope=4.0), 3)
    assert done.durations.tolist() == [4.0, 5.0, 3.0]  # half of a job each: 2 s more
    assert done.decoded == {1: 4.0, 2: 9.0, 3: 12.0}
    assert done.seconds == 12.0


def test_costs_are_added_for_each_vector_and_each_job() -> None:
    done = simulate(Uncoded(2), profile([[1, 1], [1, 1]]), 2, costs=Costs(decode=0.5, vector=0.25))
    assert done.durations.tolist() == [2.0, 2.0]


def test_a_scheme_with_a_delay_pays_its_last_rounds() -> None:
    scheme = Multiplexed(4, 1, 2, 2)
    done = simulate(scheme, profile([[1.0] * 4] * 6), 5)
    assert len(done.durations) == 6
    assert list(done.decoded) == [1, 2, 3, 4, 5]
    assert SelectiveRepetition(4, 1, 2, 2).delay == 1
    done = simulate(SelectiveRepetition(4, 1, 2, 2), profile([[1.0] * 4] * 6), 5)
    assert len(done.durations) == 5  # nothing was missing


def test_a_profile_must_fit() -> None:
    with pytest.raises(ValueError, match="2 workers"):
        simulate(Uncoded(3), profile([[1, 2]]), 1)
    with pytest.raises(ValueError, match="take 3 rounds"):
        simulate(Multiplexed(2, 1, 2, 2), profile([[1, 2], [1, 2]]), 2)


# (p_N, p_S, slope), then seconds for 480 jobs of 256 workers with the parameters below
KNOWN = [
    ((0.02, 0.9, 2.2), (10, (1, 2, 18), (2, 3, 30), (3, 2, 21), 3), (2050, 774, 785, 828, 711, 708)),
    ((0.02, 0.9, 10), (6, (1, 2, 14), (2, 3, 30), (2, 3, 30), 1), (2065, 1060, 1079, 881, 826, 781)),
    ((0.05, 0.9, 10), (12, (2, 3, 26), (2, 3, 48), (2, 2, 40), 3), (2254, 1295, 1294, 1115, 882, 825)),
    ((0.02, 0.9, 30), (4, (2, 3, 10), (2, 3, 30), (2, 3, 30), 1), (2102, 1477, 1520, 1015, 966, 927)),
    ((0.02, 0.5, 10), (10, (1, 2, 22), (2, 3, 35), (3, 2, 30), 3), (2198, 1187, 1190, 1422, 1084, 825)),
]


@pytest.mark.parametrize(("regime", "parameters", "known"), KNOWN)
def test_known_totals_within_six_per_cent(
    regime: tuple[float, float, float], parameters: tuple, known: tuple[int, ...]
) -> None:
    s, selective, conform, feasible, groups = parameters
    delays = made_up(*regime, seed=1)
    model = Wait(Rule.CONFORM)
    found = [
        simulate(Uncoded(256), delays, 480).seconds,
        simulate(GradientCoding(256, s, Counting(256, s)), delays, 480, model).seconds,
        simulate(SelectiveRepetition(256, *selective), delays, 480, model).seconds,
        simulate(Multiplexed(256, *conform), delays, 480, model).seconds,
        simulate(Multiplexed(256, *feasible), delays, 480).seconds,
        simulate(GradientCoding(256, groups), delays, 480).seconds,
    ]
    np.testing.assert_allclose(found, known, rtol=0.06)


def test_admitting_late_replies_one_by_one_is_never_slower_in_a_round() -> None:
    delays = made_up(0.05, 0.5, 10, seed=3, rounds=63)
    for rule in (Rule.CONFORM, Rule.FEASIBLE):
        first = simulate(GradientCoding(256, 7), delays, 60, Wait(rule)).durations
        everyone = simulate(GradientCoding(256, 7), delays, 60, Wait(Rule.EVERYONE)).durations
        assert (first <= everyone).all()


# Profiles ------------------------------------------------------------------------------------------


def test_a_profile_is_read_as_it_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    loads = np.repeat([[0.25], [0.5], [0.75]], 4, axis=1)
    one = Profile(rng.random((3, 4)), loads, 2.5)
    one.write(tmp_path / "profile.csv")
    again = read(tmp_path / "profile.csv", slope=2.5)
    np.testing.assert_array_equal(again.seconds, one.seconds)
    np.testing.assert_array_equal(again.loads, one.loads)
    fitted = read(tmp_path / "profile.csv")
    assert fitted.slope == fit_slope(one.loads, one.seconds)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("round,worker\n1,0\n", "no column load, seconds"),
        ("round,worker,load,seconds\n", "there are no rounds"),
        ("round,worker,load,seconds\n1,0,0,1\n1,1,0,1\n2,0,0,1\n", "round 2 has no worker 1"),
        ("round,worker,load,seconds\n1,0,0,1\n1,0,0,1\n", "twice"),
        ("round,worker,load,seconds\n1,0,0,soon\n", "line 2: could not convert"),
        ("round,worker,load,seconds\n1,0,0,nan\n", "finite"),
        ("round,worker,load,seconds\n1,0,0,1\n", "Give the slope"),
    ],
)
def test_what_is_wrong_with_a_profile(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "profile.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=says):
        read(path)


def test_the_slope_is_found_under_stragglers() -> None:
    rng = np.random.default_rng(0)
    loads = np.tile([[0.01], [0.02], [0.04], [0.08]], (10, 100))
    seconds = 0.7 + 10 * loads + rng.exponential(0.01, loads.shape)
    seconds[rng.random(loads.shape) < 0.1] *= 4
    assert fit_slope(loads, seconds) == pytest.approx(10, rel=0.05)
    assert fit_slope(np.ones((2, 2)), np.ones((2, 2))) is None


# Statistics ----------------------------------------------------------------------------------------


def test_bursts_by_hand() -> None:
    pattern = np.array([[1, 0, 0], [1, 0, 1], [0, 0, 1], [1, 0, 1]], dtype=bool)
    assert bursts(pattern) == {1: 1, 2: 1, 3: 1}
    found = describe(pattern)
    assert (found.fraction, found.mean, found.most) == (0.5, 1.5, 2)
    assert fit(pattern) == GilbertElliott(2 / 5, 1 / 4)


def test_the_chain_that_made_a_pattern_is_found_again() -> None:
    chain = GilbertElliott(0.048, 0.9)
    pattern = chain.pattern(400, 256, np.random.default_rng(0))
    found = fit(pattern)
    assert found is not None
    assert (found.p_slow, found.p_normal) == pytest.approx((0.048, 0.9), rel=0.03)
    assert pattern.mean() == pytest.approx(chain.slow, rel=0.03)
    assert sum(length * count for length, count in bursts(pattern).items()) == pattern.sum()


def test_nothing_is_fitted_to_nothing() -> None:
    assert fit(np.zeros((5, 3), dtype=bool)) is None
    assert describe(np.zeros((0, 3), dtype=bool)).bursts == {}
    with pytest.raises(ValueError, match="probabilities"):
        GilbertElliott(0, 0)


def test_scores_tell_slow_workers_from_those_that_became_slow() -> None:
    seconds = np.ones((40, 4))
    seconds[:, 1] = 2.0  # slow by itself
    seconds[20:, 2] = 4.0  # became slow
    seconds[20:, 3] = np.nan  # is gone
    found = scores(seconds)
    assert found.relative.tolist() == [1.0, 0.5, 0.25, 0.0]
    assert found.individual.tolist() == [1.0, 1.0, 0.25, 0.0]
    assert scores(np.full((3, 2), np.nan)).individual.tolist() == [0.0, 0.0]
