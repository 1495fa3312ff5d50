"""How numbers, times and candidates are written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrate.cli import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.953333, "0.9533"),
        (12, "12"),
        (9999, "9999"),
        (123_700, "123.7 k"),
        (15_600_000, "15.6 M"),
        (-2e9, "-2 G"),
        (3e12, "3 T"),
        (0.00001234, "1.234e-05"),
        (True, "True"),
        ("rbf", "rbf"),
        (None, "None"),
    ],
)
def test_numbers(value: object, text: str) -> None:
    assert words.number(value) == text


@given(st.floats(1e-9, 1e14))
def test_a_number_keeps_four_digits_and_is_short(value: float) -> None:
    text = words.number(value)
    factor = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}.get(text[-1], 1.0)
    assert float(text.rstrip(" kMGT")) * factor == pytest.approx(value, rel=1e-3)
    assert len(text) <= 11


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0854, "85 ms"),
        (0.9996, "1.0 s"),
        (3.21, "3.2 s"),
        (59.99, "1:00"),
        (245, "4:05"),
        (3599.7, "1:00:00"),
        (3723, "1:02:03"),
        (200_000, "2 d 7 h"),
        (None, "unknown"),
    ],
)
def test_durations(value: float | None, text: str) -> None:
    assert words.seconds(value) == text


def test_differing_choices_tell_candidates_apart() -> None:
    first, second = {"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 3}
    assert words.differing([first, second]) == ["b", "c"]
    assert words.differing([first]) == ["a", "b", "c"]
    assert words.choices(first, ["b"]) == "b=2"
    assert words.choices({}) == "-"


def test_times_between() -> None:
    start = datetime.now(UTC) - timedelta(seconds=5)
    assert words.between(start, start + timedelta(seconds=2)) == 2
    assert words.between(None, start) is None
    open_end = words.between(start, None)
    assert open_end is not None
    assert open_end >= 5
