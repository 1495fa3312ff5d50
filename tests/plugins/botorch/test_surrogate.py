"""Gaussian processes that depend on the log alone."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("botorch", reason="the extra `botorch` is not installed")

from orchestrate.plugins.botorch.surrogate import (
    ALWAYS,
    Series,
    Surrogate,
    last_fit,
    repeatable,
    tensor,
    winsorised,
)


def test_what_is_far_below_the_rest_is_raised_to_the_fence() -> None:
    values = np.array([0.0, 10, 11, 12, 13])  # quartiles 10 and 12
    assert winsorised(values).tolist() == [7, 10, 11, 12, 13]
    assert winsorised(-values).tolist() == [0, -10, -11, -12, -13]


def test_hyperparameters_are_fitted_ever_more_rarely() -> None:
    fits = sorted({last_fit(count) for count in range(2, 401)})
    assert fits[: ALWAYS - 1] == list(range(2, ALWAYS + 1))
    assert len(fits) < 60
    for count in range(2, 401):
        assert count / 1.1 - 1 <= last_fit(count) <= count


def series(count: int) -> list[Series]:
    rng = np.random.default_rng(0)
    points = rng.random((count, 3))
    return [
        Series(points, np.sin(5 * points[:, 0]) + points[:, 1], censor=False),
        Series(points, 1000 * points[:, 2], censor=False),
    ]


def test_it_predicts_in_standard_units() -> None:
    with repeatable(0):
        model, scales = Surrogate().model(series(40))
        inside = np.array([[0.3, 0.5, 0.5], [0.6, 0.1, 0.2]])
        found = model.posterior(tensor(inside)).mean.detach().numpy()
    truth = np.column_stack([np.sin(5 * inside[:, 0]) + inside[:, 1], 1000 * inside[:, 2]])
    predicted = found * [scale.deviation for scale in scales] + [scale.mean for scale in scales]
    assert predicted[:, 0] == pytest.approx(truth[:, 0], abs=0.15)
    assert predicted[:, 1] == pytest.approx(truth[:, 1], abs=30)


def test_a_restored_surrogate_equals_one_that_grew() -> None:
    grown = Surrogate()
    with repeatable(0):
        for count in range(5, 26, 4):
            grown.model([Series(one.points[:count], one.values[:count], one.censor) for one in series(25)])
        at = tensor(np.full((1, 3), 0.4))
        one = grown.model(series(25))[0].posterior(at).mean.detach()
        other = Surrogate().model(series(25))[0].posterior(at).mean.detach()
    assert (one == other).all()


def test_a_goal_that_never_changes_is_borne() -> None:
    flat = Series(series(6)[0].points, np.ones(6), censor=True)
    with repeatable(0):
        model, (scale,) = Surrogate().model([flat])
        mean = model.posterior(tensor(flat.points[:2])).mean.detach().numpy()
    assert mean * scale.deviation + scale.mean == pytest.approx(1.0, abs=0.2)
