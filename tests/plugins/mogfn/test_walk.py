"""Any space as an environment: nothing invalid comes out, and walks can be retraced."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrate.core import Candidate, Integer, Real, replay
from orchestrate.core.draw import draw_candidate
from orchestrate.core.testing import ExampleSpace
from orchestrate.plugins.mogfn.describe import Describer
from orchestrate.plugins.mogfn.environment import Bools, Floats, Integers, Trajectories, joined, pick
from orchestrate.plugins.mogfn.slots import Division
from orchestrate.plugins.mogfn.walk import Walks
from tests.plugins.mogfn.spaces import Described, Rare, Slots, chance, everything


@st.composite
def spaces(draw: st.DrawFn) -> Described:
    """A random conditional space: up to seven choices, some of them behind others' options."""
    lines: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    for index in range(draw(st.integers(1, 7))):
        kind = draw(st.sampled_from(["categorical", "integer", "log", "real"]))
        if kind == "categorical":
            about: tuple[Any, ...] = (kind, draw(st.integers(1, 5)))
        elif kind == "integer":
            low = draw(st.integers(-3, 3))
            about = (kind, low, low + draw(st.integers(0, 90)), draw(st.integers(1, 3)))
        elif kind == "log":
            low = draw(st.integers(1, 5))
            about = (kind, low, low + draw(st.integers(0, 900)))
        else:
            low = draw(st.sampled_from([-2.0, 0.0, 1e-3]))
            about = (kind, low, low + draw(st.sampled_from([0.0, 1.0, 40.0])))
        parents = [name for name, (parent, *_), _ in lines if parent == "categorical"]
        conditions = {}
        if parents and draw(st.booleans()):
            name = draw(st.sampled_from(parents))
            conditions[name] = f"{name}{draw(st.integers(0, 4))}"
        lines.append((f"c{index}", about, conditions))
    return Described(lines)


def equal(one: Trajectories, other: Trajectories) -> None:
    assert list(one.candidates) == list(other.candidates)
    assert np.array_equal(one.owner, other.owner)
    assert np.array_equal(one.actions, other.actions)
    assert np.array_equal(one.mask, other.mask)
    assert np.allclose(one.features, other.features, atol=1e-6)
    assert np.allclose(one.fixed, other.fixed)


@settings(max_examples=60)
@given(space=spaces(), seed=st.integers(0, 1000))
def test_nothing_invalid_comes_out_and_every_walk_can_be_retraced(space: Described, seed: int) -> None:
    walks = Walks(space)
    rng = np.random.default_rng(seed)
    seen: list[tuple[Floats, Bools]] = []

    def act(rows: Integers, features: Floats, mask: Bools) -> Integers:
        assert mask.any(axis=1).all()
        seen.append((features, mask))
        return chance(rng)(rows, features, mask)

    forward = walks.forward(8, act, rng)
    for candidate in forward.candidates:
        assert replay(space, candidate) == candidate
    assert forward.mask[np.arange(len(forward.actions)), forward.actions].all()
    equal(forward, walks.backward(forward.candidates, None, rng))
    describer = Describer(space, walks.slots)
    described = describer.describe(forward.candidates)
    assert described.shape == (8, describer.features)
    alone = [Describer(space, walks.slots).describe([one])[0] for one in forward.candidates]
    assert np.array_equal(described, alone)


@settings(max_examples=40)
@given(low=st.integers(1, 50), span=st.integers(0, 3000), log=st.booleans(), step=st.integers(1, 4))
def test_decisions_reach_every_whole_number(low: int, span: int, log: bool, step: int) -> None:
    choice = Integer("n", low, low + span, 1 if log else step, log)
    division = Division(width=5)
    for value in {low, *list(choice.values or ())[:: max(1, span // 17)], list(choice.values or ())[-1]}:
        path = iter(division.parts(choice, value))
        answered = division.answer(choice, lambda slot, edges, path=path: next(path)[2], lambda: 0.0)
        assert answered == value
        assert next(path, None) is None


def test_real_numbers_fall_into_their_own_cell() -> None:
    for choice in (Real("x", -2.0, 3.0), Real("x", 1e-4, 1.0, log=True)):
        rng = np.random.default_rng(0)
        for index in range(16):
            value = Division(bins=16).answer(choice, lambda slot, edges, index=index: index, rng.random)
            assert Division(bins=16).parts(choice, value) == [("x", 16, index)]


def test_a_tree_is_walked_with_its_own_probabilities() -> None:
    """Uniform actions: a candidate comes as often as the product of its decisions says."""
    walks, rng = Walks(Slots()), np.random.default_rng(0)
    made = walks.forward(6000, chance(rng), rng)
    shallow = np.mean([one["depth"] == 1 for one in made.candidates])
    assert shallow == pytest.approx(1 / 3, abs=0.02)
    assert np.mean(
        [one == Candidate({"depth": 1, "kind0": "pool"}) for one in made.candidates]
    ) == pytest.approx(1 / 6, abs=0.015)


def test_an_unseen_slot_is_answered_uniformly_and_counted() -> None:
    walks, rng = Walks(Rare()), np.random.default_rng(0)
    assert "hidden" not in walks.slots
    hidden = Candidate({"n0": 17, "n1": 17, "n2": 17, "hidden": "b"})
    made = walks.backward([hidden], None, rng)
    assert made.fixed == pytest.approx([-np.log(2)])
    assert set(made.lengths) == {sum(slot.startswith("n") for slot, _, _ in walks.path(hidden))}
    assert "hidden" in Walks(Rare(), known=[hidden]).slots


def test_walks_of_two_batches_join() -> None:
    walks, rng = Walks(ExampleSpace()), np.random.default_rng(0)
    first, second = (walks.forward(count, chance(rng), rng) for count in (3, 4))
    both = joined([first, second])
    assert list(both.lengths) == [*first.lengths, *second.lengths]
    assert len(both.candidates) == 7


def test_an_impossible_action_is_never_picked() -> None:
    weights = np.array([[0.0, 0.0, 1e-300, 0.0], [0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    rng = np.random.default_rng(0)
    for _ in range(200):
        assert list(pick(weights, rng)) == [2, 1, 0]


def test_a_model_sees_every_candidate_differently() -> None:
    space = Slots()
    features = Describer(space, Walks(space).slots).describe(everything(space))
    assert len(np.unique(features, axis=0)) == 84


def test_drawn_candidates_have_a_path() -> None:
    space, rng = ExampleSpace(), np.random.default_rng(0)
    walks = Walks(space)
    for _ in range(50):
        for slot, count, index in walks.path(draw_candidate(space, rng)):
            assert 0 <= index < count <= walks.slots[slot].count
