from __future__ import annotations

import pytest

from orchestrate.core import Candidate, Choose, SearchProblem, SearchSpace, SpaceExhausted
from orchestrate.plugins.samplers.random_search import RandomSearch
from tests.plugins.samplers.spaces import SINGLE, Cells


class Skewed(SearchSpace):
    """One candidate hides behind ten thousand, and half of the walks end at once."""

    name = "skewed"
    summary = "uneven branches"

    def choices(self, choose: Choose) -> None:
        if choose.categorical("deep", [False, True]):
            choose.integer("leaf", 1, 200)


def started(space: SearchSpace, *, unique: bool, seed: int = 0) -> RandomSearch:
    sampler = RandomSearch(RandomSearch.Options(unique=unique))
    sampler.start(SearchProblem(space, SINGLE, seed))
    return sampler


def test_an_ask_depends_on_seed_and_number_only() -> None:
    first, second = started(Cells(), unique=False), started(Cells(), unique=False)
    asked = [first.ask(number) for number in range(20)]
    assert [second.ask(number) for number in reversed(range(20))] == list(reversed(asked))


def test_unique_proposes_everything_once_and_ends() -> None:
    sampler = started(Skewed(), unique=True)
    asked = [sampler.ask(number) for number in range(201)]
    assert len(set(asked)) == 201
    for number in (201, 202):
        with pytest.raises(SpaceExhausted, match="201 candidates"):
            sampler.ask(number)


def test_unique_counts_adopted_candidates() -> None:
    sampler = started(Skewed(), unique=True)
    sampler.adopt(0, Candidate({"deep": False}))
    assert Candidate({"deep": False}) not in {sampler.ask(number) for number in range(1, 100)}


def test_without_unique_nothing_is_remembered() -> None:
    sampler = started(Skewed(), unique=False)
    for number in range(300):
        sampler.ask(number)
    assert not sampler._proposed
