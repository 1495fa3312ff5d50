"""Sequences: what is counted, what folds, and how a job names the scores."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrate.core import (
    Candidate,
    NoSpace,
    Program,
    Registry,
    Shape,
    SpaceError,
    SpecError,
    StaticObjective,
)
from orchestrate.plugins.mogfn.sequences import BONDS, LOOP, Hairpins, NGrams, folded, occurrences, word
from tests.plugins.mogfn.spaces import everything

REGISTRY = Registry.discover()


def test_grams_are_counted_with_overlaps() -> None:
    assert occurrences("AVAVAAV", "AV") == 3
    assert occurrences("AAAA", "AA") == 3
    space = NGrams(NGrams.Options(alphabet="AVC", shortest=2, longest=4, wanted=("AV", "VC"), scale=2))
    assert space.size() == len(everything(space)) == 9 + 27 + 81
    one = Candidate({"letter0": "A", "letter1": "V", "letter2": "C", "letter3": "."})
    assert word(one) == "AVC"
    assert space.score(one) == {"AV": 0.5, "VC": 0.5}


@pytest.mark.parametrize(
    "wrong",
    [{"shortest": 5, "longest": 4}, {"wanted": ["AB"]}, {"alphabet": "AVCA"}, {"alphabet": "AVC."}],
    ids=str,
)
def test_options_that_make_no_words_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"shortest|lacks|repeats"):
        NGrams.Options.model_validate(wrong)
    with pytest.raises(ValueError, match="shortest"):
        Hairpins.Options(shortest=9, longest=8)


def test_a_hairpin_by_hand() -> None:
    assert folded("GGGAAACCC", BONDS) == 9
    assert folded("GAAC", BONDS) == 0  # the turn needs three bases
    assert folded("GAAAC", BONDS) == 3
    assert folded("ACGT", BONDS) == 0
    space = Hairpins(Hairpins.Options(shortest=9, longest=12))
    strand = Candidate({**{f"letter{index}": base for index, base in enumerate("GGGAAACCC")}, "letter9": "."})
    scores = space.score(strand)
    assert scores == pytest.approx({"bonds": 1.0, "pairs": 1.0, "short": 1.0, "varied": 0.7924812503605781})


@given(st.text("ACGT", min_size=1, max_size=9))
def test_the_best_folding_is_found(strand: str) -> None:
    """Against all sets of pairs that are nested and leave room for the turn."""
    possible = [
        (i, j)
        for i, j in combinations(range(len(strand)), 2)
        if j - i > LOOP and (strand[i], strand[j]) in BONDS
    ]
    best = 0
    for count in range(1, 4):
        for pairs in combinations(possible, count):
            places = [place for pair in pairs for place in pair]
            crossing = any(a < c < b < d for a, b in pairs for c, d in pairs)
            if len(set(places)) == len(places) and not crossing:
                best = max(best, sum(BONDS[strand[i], strand[j]] for i, j in pairs))
    assert folded(strand, BONDS) == best


def test_scores_are_named_by_the_job() -> None:
    space = NGrams(NGrams.Options(alphabet="AVC", shortest=2, longest=4))
    one = everything(space)[5]
    objective = REGISTRY.create(StaticObjective, "synthetic", {"score": "AV"})  # type: ignore[type-abstract]
    assert objective.compute(one, space, Shape((1,), 1)) == space.score(one)["AV"]
    unknown = REGISTRY.create(StaticObjective, "synthetic", {"score": "AX"})  # type: ignore[type-abstract]
    with pytest.raises(SpaceError, match="'AX'"):
        unknown.compute(one, space, Shape((1,), 1))
    with pytest.raises(SpaceError, match="hypergrid"):
        objective.compute(one, NoSpace(), Shape((1,), 1))
    with pytest.raises(SpecError, match="hypergrid"):
        REGISTRY.create(Program, "synthetic").check(NoSpace(), None)  # type: ignore[arg-type, type-abstract]
