"""Preferences: reading them, and scaling them to the goals."""

from __future__ import annotations

import pytest

from orchestrate.core import Goal, SpecError
from orchestrate.core.preference import normalised, parse_preference

GOALS = (Goal("accuracy", "maximize"), Goal("latency", "minimize"), Goal("size", None, maximum=3.0))


def test_a_preference_is_read_and_scaled() -> None:
    assert parse_preference("accuracy=3, latency = 1e0 ,") == {"accuracy": 3.0, "latency": 1.0}
    assert normalised({"accuracy": 3, "latency": 1}, GOALS) == {"accuracy": 0.75, "latency": 0.25}


def test_a_goal_that_is_not_named_counts_nothing() -> None:
    assert normalised({"latency": 5}, GOALS) == {"accuracy": 0.0, "latency": 1.0}


@pytest.mark.parametrize("text", ["accuracy", "accuracy=", "=1", "accuracy=much", "accuracy=nan"])
def test_what_is_no_weight_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="write it as name=weight"):
        parse_preference(text)


def test_a_name_counts_once() -> None:
    with pytest.raises(SpecError, match="'a' twice"):
        parse_preference("a=1,a=2")


@pytest.mark.parametrize(
    ("preference", "message"),
    [
        ({"acuracy": 1}, "Did you mean 'accuracy'"),
        ({"size": 1}, "no optimised objective"),
        ({"accuracy": -1}, "0 or more"),
        ({"accuracy": float("inf")}, "finite"),
        ({"accuracy": 0}, "a weight above 0"),
        ({}, "a weight above 0"),
    ],
)
def test_weights_must_fit_the_goals(preference: dict[str, float], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        normalised(preference, GOALS)
