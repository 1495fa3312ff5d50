"""What is remembered for replay, and what is given for it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from orchestrate.core import Candidate, Goal, SearchProblem, SpecError
from orchestrate.plugins.mogfn.al import differing
from orchestrate.plugins.mogfn.memory import Memory
from orchestrate.plugins.mogfn.pc import MogfnPc
from tests.plugins.mogfn.spaces import Flat

Rewards = NDArray[np.float64]
Held = dict[Candidate, tuple[float, ...]]
CANDIDATES = st.dictionaries(st.sampled_from("abcd"), st.sampled_from([0, 1, 1.5, "1"]), min_size=1)
OFFERED = st.lists(st.tuples(CANDIDATES, st.tuples(st.integers(0, 3), st.integers(0, 3))), max_size=30)


def held(memory: Memory) -> Held:
    """All that is in a memory, found by drawing each reward that there is."""
    if not len(memory):
        return {}
    table: list[Rewards] = []

    def nearest(rewards: Rewards) -> Rewards:
        table.append(rewards.copy())
        return np.eye(len(rewards)) * (1 + rewards[:, :1])

    drawn = memory.draw(nearest, np.random.default_rng(0), 40)
    rows = [Counter(drawn[row * 40 : (row + 1) * 40]) for row in range(len(memory))]
    most = [row.most_common(1)[0][0] for row in rows]  # every other time it is the row's best one
    return {one: tuple(reward.tolist()) for one, reward in zip(most, table[0], strict=True)}


@given(OFFERED, st.integers(1, 4), st.integers(4, 14))
@settings(max_examples=60, deadline=None)
def test_a_diverse_memory_holds_what_is_far_apart_or_better(
    offered: list[tuple[dict[str, Any], tuple[int, int]]], apart: int, capacity: int
) -> None:
    """Of two that are near each is better in something. Where there was room for all, something as good and
    near was offered for each that isn't held.
    """
    memory = Memory(capacity, apart)
    seen: Held = {}
    for choices, reward in offered:
        candidate = Candidate(choices)
        if candidate not in seen:
            seen[candidate] = reward
            memory.add([candidate], np.array([reward], np.float64))
    found = held(memory)
    assert len(found) == len(memory) <= capacity
    for one, reward in found.items():
        assert reward == seen[one]
        near = [other for other in found if other != one and differing(one, other) < apart]
        assert all(np.greater(reward, seen[other]).any() for other in near)
    if len(memory) < capacity and len(seen) < capacity:
        for one in seen.keys() - found.keys():
            near = [other for other in seen if other != one and differing(one, other) < apart]
            assert any(np.greater_equal(seen[other], seen[one]).all() for other in near)


def test_the_oldest_make_room_in_a_diverse_memory_too() -> None:
    words = [Candidate(dict(zip("abcd", word, strict=True))) for word in ("0000", "1111", "2222", "0001")]
    memory = Memory(2, 2)
    for word, reward in zip(words, (0.1, 0.2, 0.3, 0.4), strict=True):
        memory.add([word], np.array([[reward]]))
    assert held(memory) == {words[2]: (0.3,), words[3]: (0.4,)}
    memory.add(words[:1], np.array([[0.1]]))  # near a better one
    assert words[0] not in held(memory)


NEEDLE = {f"c{index}": "abca"[index % 4] for index in range(12)}


class Long(Flat):
    """Twelve choices among three: half a million candidates."""

    name = "long"

    def choices(self, choose: Any) -> None:
        for index in range(12):
            choose.categorical(f"c{index}", list("abc"))


def needle(known: bool) -> tuple[MogfnPc, float]:
    """A policy of a reward that one candidate alone has, and log P of that one."""
    space, goal = Long(), Goal("hit", "maximize")
    options = {
        "known": [NEEDLE] if known else [],
        "bounds": {"hit": [0, 1]},
        "gflownet": {"steps": 80, "batch": 16, "width": 32, "depth": 2, "learning_rate": 1e-2},
    }
    sampler = MogfnPc(MogfnPc.Options.model_validate(options))
    hit = Candidate(NEEDLE)
    sampler.start(SearchProblem(space, (goal,), 0, 100, {"hit": lambda one: 1.0 if one == hit else 0.3}))
    net = sampler.learnt(sampler.snapshot(0))
    assert net is not None
    return sampler, float(net.log_probability([hit], net.draw_conditions()[:1])[0])


def test_what_is_known_teaches_what_would_never_be_found() -> None:
    assert needle(known=False)[1] < np.log(1e-3)
    sampler, likely = needle(known=True)
    assert likely > np.log(0.5)
    assert Candidate(NEEDLE) in [sampler.ask(number) for number in range(4)]


@pytest.mark.parametrize(
    ("options", "exact", "message"),
    [
        ({"known": [{"c0": "a"}]}, True, "candidate 1: the recorded candidate has no answer"),
        ({"known": [NEEDLE]}, False, "all exact"),
        ({"known": [NEEDLE], "gflownet": {"replay": 0}}, True, r"gflownet\.replay is 0"),
    ],
)
def test_what_is_known_has_to_be_of_use(options: dict[str, Any], exact: bool, message: str) -> None:
    functions = {"hit": lambda one: float(len(one))} if exact else {}
    with pytest.raises((SpecError, ValueError), match=message):
        MogfnPc(MogfnPc.Options.model_validate(options)).start(
            SearchProblem(Long(), (Goal("hit", "maximize"),), 0, 100, functions)
        )
