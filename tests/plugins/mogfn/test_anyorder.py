"""Choices made in any order: every order is a walk, nothing invalid comes out, and the target is learnt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from orchestrate.core import Candidate, Choose, SearchSpace, SpaceError, SpecError, replay
from orchestrate.core.draw import draw_candidate
from orchestrate.core.registry import Registry
from orchestrate.plugins.mogfn import exact
from orchestrate.plugins.mogfn.anyorder import AnyOrder
from orchestrate.plugins.mogfn.conditions import BetaOptions, Conditions
from orchestrate.plugins.mogfn.gflownet import GFlowNet
from orchestrate.plugins.mogfn.options import TrainingOptions
from tests.plugins.mogfn.spaces import Described, Flat, Rare, Slots, chance, everything
from tests.plugins.mogfn.test_walk import spaces

SPACE = Slots()
CELLS = everything(SPACE)
SCORES = {
    one: np.array([0.1 + sum(value in (5, 7) for value in one.values()) / 4, 1 - len(one) / 8])
    for one in CELLS
}


def shortened(space: Described) -> Described:
    """Ranges of at most 21 numbers, of which any is one decision."""
    return Described(
        [
            (name, (about[0], about[1], min(about[2], about[1] + 20), *about[3:]), conditions)
            if about[0] in ("integer", "log")
            else (name, about, conditions)
            for name, about, conditions in space.lines
        ]
    )


@settings(max_examples=40)
@given(space=spaces(), seed=st.integers(0, 1000))
def test_nothing_invalid_comes_out_and_every_candidate_has_its_walks(space: Described, seed: int) -> None:
    space = shortened(space)
    graph = AnyOrder(space)
    rng = np.random.default_rng(seed)
    forward = graph.forward(8, chance(rng), rng)
    for candidate in forward.candidates:
        assert replay(space, candidate) == candidate
    drawn = [draw_candidate(space, rng) for _ in range(8)]
    for walks in (forward, graph.backward([*forward.candidates, *drawn], None, rng)):
        assert walks.parents is not None
        assert walks.mask[np.arange(len(walks.actions)), walks.actions].all()
        starts = np.searchsorted(walks.owner, np.arange(len(walks.candidates)))
        assert not walks.parents[starts].any()
        inner = np.setdiff1d(np.arange(len(walks.owner)), starts)
        assert walks.parents[inner, walks.actions[inner - 1]].all()


def test_a_step_taken_back_leads_where_it_came_from() -> None:
    """In every state of a conditional space, the steps that led there are those that lead there."""
    graph = AnyOrder(SPACE)
    came: dict[bytes, set[int]] = {}
    states: list[NDArray[np.int64]] = []
    for layer, rows, actions in exact.layers(graph):
        states += list(layer)
        for state, action in zip(graph.step(layer[rows], actions), actions.tolist(), strict=True):
            came.setdefault(state.tobytes(), set()).add(action)
        taken = graph.step(layer[rows], actions)
        assert np.array_equal(graph.step(taken, actions, -1), layer[rows])
    for state in states:
        back = set(np.flatnonzero(graph.origins(state[None])[0]).tolist())
        assert back == came.get(state.tobytes(), set())
    ends = [state for state in states if graph.allowed(state[None])[0, graph.stop]]
    assert {graph.candidate(state) for state in ends} == set(CELLS)
    assert all(np.array_equal(graph.state(graph.candidate(state)), state) for state in ends)


@pytest.mark.parametrize(
    ("space", "candidate", "ways"),
    [
        (Flat(), Candidate({f"c{index}": "a" for index in range(4)}), math.factorial(4)),
        (
            SPACE,
            Candidate({"depth": 2, "kind0": "conv", "kernel0": 3, "kind1": "conv", "kernel1": 5}),
            10,
        ),
    ],
    ids=["flat", "conditional"],
)
def test_every_order_is_a_walk(space: SearchSpace, candidate: Candidate, ways: int) -> None:
    """Counted by hand: free choices come in n! orders. Else a kernel needs its kind, and kind1 the depth:
    the orders of kind0 < kernel0 and depth < kind1 < kernel1 are 5! / (2! 3!).
    """
    graph = AnyOrder(space)
    target = graph.state(candidate)
    count = {graph.first().tobytes(): 1}
    for layer, rows, actions in exact.layers(graph):
        for row, action in zip(rows, actions, strict=True):
            to = graph.step(layer[row][None], np.array([action]))[0]
            if all(there in (0, want) for there, want in zip(to, target, strict=True)):
                came = count.get(layer[row].tobytes(), 0)
                count[to.tobytes()] = count.get(to.tobytes(), 0) + came
    assert count[target.tobytes()] == ways


@pytest.mark.parametrize("backward", ["uniform", "learned"])
def test_the_target_is_learnt(backward: str) -> None:
    """Whatever the order, P(x | w) ∝ R_w(x)^β: with a uniform and with a learned backward policy."""

    def rewards(found: Sequence[Candidate]) -> NDArray[np.float64]:
        return np.array([SCORES[one] for one in found])

    options = TrainingOptions(
        batch=64, beta=BetaOptions(high=4.0, warmup=0.0), learning_rate=1e-2, width=64, backward=backward
    )  # type: ignore[arg-type]
    net = GFlowNet(AnyOrder(SPACE), 2, rewards, options, np.random.default_rng(0))
    net.train(400)
    weights = np.array([[0.9, 0.1], [0.6, 0.4], [0.1, 0.9]])
    cells, found = exact.terminating_distributions(net, weights, 4.0)
    assert set(cells) == set(CELLS)
    table = np.array([SCORES[one] for one in cells])
    for one, reached in zip(weights, found, strict=True):
        assert reached.sum() == pytest.approx(1)
        wanted, log_z = exact.target(4.0 * net.log_scalarise(one, table))
        assert exact.distance(reached, wanted) < 0.15
        assert abs(net.log_z(Conditions(one[None], np.array([4.0])))[0] - log_z) < 0.15


class Coupled(SearchSpace):
    """Whether there is a third choice depends on whether two agree."""

    name = "coupled"
    summary = "no conjunction"

    def choices(self, choose: Choose) -> None:
        if choose.categorical("a", [0, 1]) == choose.categorical("b", [0, 1]):
            choose.categorical("c", [0, 1])


class Varying(SearchSpace):
    """Bounds that an earlier choice sets."""

    name = "varying"
    summary = "bounds vary"

    def choices(self, choose: Choose) -> None:
        choose.integer("b", 0, choose.integer("a", 1, 4))


class Long(SearchSpace):
    """A range that takes more than one decision."""

    name = "long"
    summary = "a long range"

    def choices(self, choose: Choose) -> None:
        choose.integer("n", 0, 400)


@pytest.mark.parametrize(
    ("space", "why"),
    [(Coupled(), "another way"), (Varying(), "bounds that vary"), (Long(), "more than 32 values")],
    ids=["coupled", "varying", "long"],
)
def test_what_has_no_order_is_refused(space: SearchSpace, why: str) -> None:
    with pytest.raises(SpecError, match=why):
        AnyOrder(space)


def test_what_was_not_found_is_an_error_and_no_silence() -> None:
    graph = AnyOrder(Rare())
    state = graph.state(Candidate({"n0": 17, "n1": 17, "n2": 3}))
    assert graph.candidate(state) == Candidate({"n0": 17, "n1": 17, "n2": 3})
    state[2] = 18
    with pytest.raises(SpaceError, match="wasn't found"):
        graph.candidate(state)


@pytest.mark.parametrize(
    ("name", "options"), [("nasbench201", {}), ("ofa-mobilenetv3", {"preset": "tiny"})], ids=["cells", "nets"]
)
def test_spaces_of_networks_have_an_order(name: str, options: dict[str, Any]) -> None:
    space = Registry.discover().create(SearchSpace, name, options)
    graph, rng = AnyOrder(space), np.random.default_rng(0)
    made = graph.forward(20, chance(rng), rng)
    assert all(replay(space, one) == one for one in made.candidates)
    assert list(graph.backward(made.candidates, None, rng).candidates) == list(made.candidates)
