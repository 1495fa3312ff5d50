"""Half of a walk again, and the better candidate: on trees and graphs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from orchestrate.core import Candidate, replay
from orchestrate.plugins.mogfn.anyorder import AnyOrder
from orchestrate.plugins.mogfn.environment import Environment, joined, taken
from orchestrate.plugins.mogfn.hypergrid import GridGraph
from orchestrate.plugins.mogfn.local_search import halfway, improved
from orchestrate.plugins.mogfn.walk import Walks
from tests.plugins.mogfn.spaces import Described, Slots, chance
from tests.plugins.mogfn.test_walk import spaces

ENVIRONMENTS: dict[str, Environment] = {
    "tree": Walks(Slots()),
    "any order": AnyOrder(Slots()),
    "grid": GridGraph(2, 6),
}


@pytest.fixture(params=ENVIRONMENTS)
def environment(request: pytest.FixtureRequest) -> Environment:
    return ENVIRONMENTS[request.param]


def test_the_first_half_of_a_walk_stays(environment: Environment) -> None:
    rng = np.random.default_rng(0)
    walks = environment.forward(300, chance(rng), rng)
    again = environment.forward(300, halfway(walks, chance(rng)), rng)
    changed = 0
    for row in range(300):
        old, new = walks.actions[walks.owner == row], again.actions[again.owner == row]
        half = len(old) // 2
        assert np.array_equal(old[:half], new[:half])
        changed += not np.array_equal(old, new)
    assert changed > 100


@settings(max_examples=30)
@given(space=spaces(), seed=st.integers(0, 1000))
def test_nothing_invalid_comes_out(space: Described, seed: int) -> None:
    rng = np.random.default_rng(seed)
    walks = Walks(space)
    made = walks.forward(6, chance(rng), rng)
    for candidate in walks.forward(6, halfway(made, chance(rng)), rng).candidates:
        assert replay(space, candidate) == candidate


def test_what_is_kept_is_never_worse_and_soon_better(environment: Environment) -> None:
    rng = np.random.default_rng(1)

    def judge(candidates: Sequence[Candidate]) -> NDArray[np.float64]:
        return np.array([sum(isinstance(one, int) and one for one in each.values()) for each in candidates])

    walks = environment.forward(100, chance(rng), rng)
    once, often = (improved(environment, walks, chance(rng), None, judge, n, rng) for n in (1, 6))
    before, after, last = (judge(one.candidates) for one in (walks, once, often))
    assert (after >= before).all()
    assert before.mean() < after.mean() < last.mean()
    for row in np.flatnonzero(after == before)[:20]:
        assert once.candidates[row] == walks.candidates[row]


def test_walks_are_taken_whole(environment: Environment) -> None:
    rng = np.random.default_rng(2)
    one, other = (environment.forward(5, chance(rng), rng) for _ in range(2))
    both = joined([one, other])
    found = taken(both, np.array([7, 0, 7]))
    assert found.candidates == [other.candidates[2], one.candidates[0], other.candidates[2]]
    for row, (walks, place) in enumerate([(other, 2), (one, 0), (other, 2)]):
        here, there = found.owner == row, walks.owner == place
        assert np.array_equal(found.actions[here], walks.actions[there])
        assert np.array_equal(found.features[here], walks.features[there])
        if found.states is not None and walks.states is not None:
            assert np.array_equal(found.states[here], walks.states[there])
