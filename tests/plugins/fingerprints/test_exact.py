from __future__ import annotations

from orchestrate.core import Candidate, Key, Print
from orchestrate.plugins.fingerprints.exact import Exact
from tests.core.testing.examples import Blobs, Three


def test_a_print_is_the_candidates_digest() -> None:
    candidate = Candidate({"edge0": "skip", "edge1": "none"})
    assert Exact().compute(candidate, Three(), Blobs()) == Print((Key("exact", candidate.digest),))


def test_types_and_values_count_and_order_does_not() -> None:
    def key(**choices: str | float | bool) -> Key:
        return Exact().compute(Candidate(choices), Three(), Blobs()).keys[0]

    assert key(a=1, b=2) == key(b=2, a=1)
    assert len({key(a=1), key(a=1.0), key(a=True), key(a="1"), key(b=1)}) == 5
    assert Exact.exact
