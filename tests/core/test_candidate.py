from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrate.core import Candidate, SpaceError, canonical_json, digest

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
)
CHOICES = st.dictionaries(st.text(), SCALARS, max_size=6)


@given(CHOICES)
def test_json_brings_a_candidate_back(choices: dict[str, Any]) -> None:
    candidate = Candidate(choices)
    again = Candidate(json.loads(candidate.json))
    assert again == candidate
    assert again.digest == candidate.digest
    assert hash(again) == hash(candidate)
    assert [type(again[name]) for name in choices] == [type(choices[name]) for name in choices]


@given(CHOICES, st.randoms())
def test_order_does_not_count(choices: dict[str, Any], order: Any) -> None:
    items = list(choices.items())
    order.shuffle(items)
    assert Candidate(dict(items)) == Candidate(choices)
    assert list(Candidate(choices)) == list(choices)


@given(CHOICES, CHOICES)
def test_candidates_are_equal_exactly_if_their_json_is(one: dict[str, Any], other: dict[str, Any]) -> None:
    equal = Candidate(one) == Candidate(other)
    assert equal == (Candidate(one).json == Candidate(other).json)
    assert equal == (Candidate(one).digest == Candidate(other).digest)


def test_types_count_and_the_sign_of_zero_does_not() -> None:
    assert len({Candidate({"a": value}) for value in (1, 1.0, True, "1", None)}) == 5
    assert Candidate({"a": -0.0}) == Candidate({"a": 0.0})
    assert Candidate({"a": -0.0}).json == '{"a":0.0}'


def test_it_is_a_mapping_that_cannot_change() -> None:
    choices = {"b": 2, "a": 1}
    candidate = Candidate(choices)
    choices["c"] = 3
    assert dict(candidate) == {"b": 2, "a": 1}
    assert len(candidate) == 2
    assert candidate != {"b": 2, "a": 1}
    assert repr(candidate) == "Candidate(b=2, a=1)"
    with pytest.raises(TypeError):
        candidate["a"] = 5  # type: ignore[index]
    with pytest.raises(KeyError):
        _ = candidate["c"]


@given(CHOICES)
def test_it_is_pickled_with_its_order(choices: dict[str, Any]) -> None:
    again = pickle.loads(pickle.dumps(Candidate(choices)))
    assert again == Candidate(choices)
    assert list(again) == list(choices)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_are_finite(value: float) -> None:
    with pytest.raises(SpaceError, match="finite numbers only"):
        Candidate({"a": value})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)


@pytest.mark.parametrize("value", [[1], {"b": 1}, (1,), object()])
def test_values_are_scalars(value: Any) -> None:
    with pytest.raises(SpaceError, match=f"'a' is a {type(value).__name__}"):
        Candidate({"a": value})


def test_a_digest_is_the_same_in_every_process() -> None:
    code = "from orchestrate.core import Candidate; print(Candidate({'b': 1.5, 'a': 'ü'}).digest)"
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert digests == {Candidate({"a": "ü", "b": 1.5}).digest}
    assert digests == {digest({"a": "ü", "b": 1.5})}


def test_the_digest_is_pinned() -> None:
    """Catalogs on disk hold digests: changing how they are made would orphan every entry."""
    assert Candidate({"a": 1, "b": "x"}).json == '{"a":1,"b":"x"}'
    assert Candidate({"a": 1, "b": "x"}).digest == PINNED
    assert len(PINNED) == 32


PINNED = "4f8faf70fb2dd1fe8d01e513c30c69ae"
