"""Acquisitions against closed forms."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from orchestrate.core import Candidate
from orchestrate.plugins.mogfn import acquisition
from orchestrate.plugins.mogfn.al import AlOptions
from orchestrate.plugins.mogfn.improvement import Improvement, directions
from orchestrate.plugins.mogfn.model import MARGIN, Belief, unwarped, warped
from orchestrate.plugins.mogfn.scalarise import LEAST

Values = NDArray[np.float64]
POWER = 1 / 8
MEAN = warped(np.array([[0.5, 0.8], [0.9, 0.3], [0.6, 0.6], [0.2, 0.1]]))
DEVIATION = np.array([[0.5, 0.2], [0.1, 0.4], [0.3, 0.3], [0.0, 0.0]])
CHANCE = np.array([1.0, 0.5, 1.0, 1.0])
FRONT = np.array([[0.7, 0.2], [0.3, 0.9]])
SOME = [Candidate({"c": index}) for index in range(len(MEAN))]
RNG = np.random.default_rng(0)


def model(objectives: int = 2, front: Values = FRONT) -> Any:
    def believe(candidates: Sequence[Candidate]) -> Belief:
        rows = [int(one["c"]) for one in candidates]  # type: ignore[arg-type]
        return Belief(MEAN[rows, :objectives], DEVIATION[rows, :objectives], CHANCE[rows])

    return SimpleNamespace(believe=believe, front=front[:, :objectives])


def closed_form(mean: Values, deviation: Values, best: float) -> Values:
    """E[max(r - best, 0)] of a reward r = 1 + MARGIN - exp(-z), z normal: exp(-z) is log-normal."""
    strike = 1 + MARGIN - best
    gap = (np.log(strike) + mean) / np.maximum(deviation, 1e-12)
    return strike * ndtr(gap) - np.exp(deviation**2 / 2 - mean) * ndtr(gap - deviation)


def improvements(weights: Sequence[float], objectives: int, samples: int = 4000) -> Values:
    """Expected improvement of all candidates for a preference, before it is made a log reward."""
    draws = acquisition.stratified(samples, objectives, np.random.default_rng(1))
    rewards, improving = acquisition.by_preference(model(objectives), draws, POWER, "weighted-sum")
    rows = rewards(SOME)
    assert rows.shape == (len(SOME), samples * objectives + 1)
    assert rows[:, -1] == pytest.approx(POWER * np.log(CHANCE))
    return improving.gain(np.array(weights), rows[:, :-1])


def test_expected_improvement_of_one_objective() -> None:
    assert improvements([1.0], 1) == pytest.approx(closed_form(MEAN[:, 0], DEVIATION[:, 0], 0.7), abs=1e-4)


@pytest.mark.parametrize("objective", [0, 1])
def test_expected_improvement_is_over_what_is_best_for_the_preference(objective: int) -> None:
    weights = np.eye(2)[objective].tolist()
    best = FRONT[:, objective].max()
    truth = closed_form(MEAN[:, objective], DEVIATION[:, objective], best)
    assert improvements(weights, 2) == pytest.approx(truth, abs=1e-4)


def test_expected_improvement_of_a_mixture() -> None:
    """The other objective's reward moves the incumbent: an integral over it of the closed form's kind."""
    weights = np.array([0.4, 0.6])
    best = (FRONT @ weights).max()
    quantiles = ndtri((np.arange(4000) + 0.5) / 4000)
    rewards = [unwarped(MEAN[:, d, None] + quantiles * DEVIATION[:, d, None]) for d in (0, 1)]
    truth = [
        np.maximum(weights[0] * first[:, None] + weights[1] * second - best, 0).mean()
        for first, second in zip(rewards[0], rewards[1], strict=True)
    ]
    assert improvements(weights.tolist(), 2, 20_000) == pytest.approx(truth, abs=2e-3)


def test_few_samples_are_near() -> None:
    exact = closed_form(MEAN[:, 0], DEVIATION[:, 0], 0.7)
    assert improvements([1.0], 1, 24) == pytest.approx(exact, abs=0.01)


def test_hypervolume_improvement_of_one_objective_is_its_expected_improvement() -> None:
    draws = acquisition.stratified(4000, 1, RNG)
    improvement = Improvement(FRONT[None, :, :1], directions(1, 1, RNG))
    rewards, improving = acquisition.in_hypervolume(model(1), draws, POWER, improvement)
    found = improving.gain(np.ones(1), rewards(SOME)[:, :-1])
    assert found == pytest.approx(closed_form(MEAN[:, 0], DEVIATION[:, 0], 0.7), abs=1e-4)


def test_greedy_is_the_mean() -> None:
    floor = np.quantile(FRONT, acquisition.FLOOR, axis=0)
    share = np.clip((unwarped(MEAN) - floor) / (1 - floor), 0, 1.5)
    found = acquisition.bounded(model(), 0.0, POWER)(SOME)
    assert found == pytest.approx(share * CHANCE[:, None] ** POWER)
    bold = acquisition.bounded(model(), 1.0, POWER)(SOME)
    assert (bold[:2] > found[:2]).any(axis=1).all()
    assert bold[3] == pytest.approx(found[3])  # known without a doubt


@pytest.mark.parametrize("name", ["ei", "ehvi"])
def test_an_improvement_counts_in_proportion_to_the_best_known(name: str) -> None:
    """Improvements may have become small: reward 1 is always the best known candidate's."""
    draws = acquisition.stratified(50, 2, RNG)
    if name == "ei":
        rewards, improving = acquisition.by_preference(model(), draws, POWER, "weighted-sum")
    else:
        improvement = Improvement(FRONT[None], directions(2, 50, RNG))
        rewards, improving = acquisition.in_hypervolume(model(), draws, POWER, improvement)
    rows = rewards(SOME)
    improving.anchor(rows, 2)
    weights = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    gains = improving.gain(weights[:, None], rows[None, :, :-1])
    found = improving(weights[:, None], rows[None])
    assert found.shape == (3, len(SOME))
    share = np.maximum(gains / gains.max(axis=1, keepdims=True), LEAST)
    assert found == pytest.approx(np.log(share * CHANCE**POWER))
    one_each = improving(weights, rows[:3])
    assert one_each == pytest.approx(np.diag(found[:, :3]))


def test_nothing_measured_is_feasible() -> None:
    draws = acquisition.stratified(50, 2, RNG)
    empty = np.zeros((0, 2))
    rewards, improving = acquisition.by_preference(model(front=empty), draws, POWER, "weighted-sum")
    rows = rewards(SOME)
    gain = improving.gain(np.array([[1.0, 0.0]]), rows[:, :-1])
    assert gain == pytest.approx(unwarped(MEAN[:, 0]), abs=0.2)
    assert np.isfinite(acquisition.bounded(model(front=empty), 1.0, POWER)(SOME)).all()


def test_a_goal_has_no_improvement() -> None:
    with pytest.raises(ValueError, match="direction"):
        AlOptions.model_validate({"acquisition": "ei", "gflownet": {"scalarisation": "goal"}})
