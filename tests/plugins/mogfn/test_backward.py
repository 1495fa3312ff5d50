"""Backward policies by the number of ways: counts, exact flows, entropy, and the target learnt with them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from orchestrate.core import Candidate, Choose, SearchSpace, SpecError
from orchestrate.plugins.mogfn import environment, exact, losses
from orchestrate.plugins.mogfn.anyorder import AnyOrder
from orchestrate.plugins.mogfn.backward import by_ways, log_backward
from orchestrate.plugins.mogfn.conditions import BetaOptions, Conditions
from orchestrate.plugins.mogfn.environment import Graph
from orchestrate.plugins.mogfn.gflownet import GFlowNet
from orchestrate.plugins.mogfn.hypergrid import GridGraph
from orchestrate.plugins.mogfn.options import TrainingOptions
from orchestrate.plugins.mogfn.policy import Heads
from tests.plugins.mogfn.spaces import Slots, chance, exact_terms, graph_flow


class Both(SearchSpace):
    """The third choice needs two others, of which neither needs the other: no forest."""

    name = "both"
    summary = "a choice with two needs"

    def choices(self, choose: Choose) -> None:
        first, second = choose.categorical("first", ["a", "b"]), choose.categorical("second", ["a", "b"])
        choose.categorical("free", [0, 1])
        if first == "b" and second == "b" and choose.categorical("third", [0, 1]):
            choose.categorical("fourth", [0, 1])


class Uncounted(GridGraph):
    """A grid that knows no closed form."""

    log_ways = Graph.log_ways


GRAPHS: dict[str, Graph] = {
    "grid": GridGraph(2, 5),
    "grid of three": GridGraph(3, 3),
    "grid, counted": Uncounted(2, 5),
    "forest": AnyOrder(Slots()),
    "no forest": AnyOrder(Both()),
}
EMPTY = Heads(torch.zeros(0), None, torch.zeros(0))


@pytest.fixture(params=GRAPHS)
def graph(request: pytest.FixtureRequest) -> Graph:
    return GRAPHS[request.param]


def rewards_of(graph: Graph) -> dict[Candidate, float]:
    rng = np.random.default_rng(3)
    states = [state for layer, _, _ in exact.layers(graph) for state in layer]
    ends = [state for state in states if graph.allowed(state[None])[0, graph.stop]]
    return {graph.candidate(state): float(rng.normal(0, 2)) for state in ends}


def test_ways_are_counted(graph: Graph) -> None:
    """Against the enumeration of all walks, step by step from the first state."""
    ways: dict[bytes, int] = {graph.first().tobytes(): 1}
    states: list[NDArray[np.int64]] = []
    for layer, rows, actions in exact.layers(graph):
        states += list(layer)
        for row, to in zip(rows, graph.step(layer[rows], actions), strict=True):
            ways[to.tobytes()] = ways.get(to.tobytes(), 0) + ways[layer[row].tobytes()]
    found = graph.log_ways(np.array(states))
    assert found == pytest.approx([math.log(ways[state.tobytes()]) for state in states], abs=1e-12)
    assert max(ways.values()) > 5


def test_one_choice_after_two_others_is_counted_by_hand() -> None:
    """5! orders, of which fourth comes last of four in a quarter, and third last of three in a third."""
    graph = GRAPHS["no forest"]
    made = Candidate({"first": "b", "second": "b", "free": 0, "third": 1, "fourth": 0})
    assert graph.log_ways(graph.state(made)[None])[0] == pytest.approx(math.log(120 / 4 / 3))


@pytest.mark.parametrize("kind", ["uniform", "maxent", "gsql"])
def test_zero_at_the_exact_flow(graph: Graph, kind: str) -> None:
    rng = np.random.default_rng(0)
    rewards = rewards_of(graph)
    walks = graph.forward(500, chance(rng), rng)
    terms = exact_terms(graph, [*rewards], rewards, walks, "uniform" if kind == "uniform" else "maxent")
    assert walks.states is not None
    back = torch.zeros_like(terms.backward)
    back[terms.on] = log_backward(kind, graph, walks, EMPTY)  # type: ignore[arg-type]
    if kind == "gsql":  # the same walks, and states whose flow is shared among the ways to them
        assert back.sum(dim=1).numpy() == pytest.approx(terms.backward.sum(dim=1).numpy())
        shared = terms.flow.clone()
        shared[terms.on] -= torch.as_tensor(graph.log_ways(walks.states))
        terms = terms._replace(flow=shared, backward=back)
    assert terms.backward.numpy() == pytest.approx(back.numpy(), abs=1e-12)
    assert losses.trajectory_balance(terms, torch.abs).max() < 1e-9
    assert losses.detailed_balance(terms, torch.abs).max() < 1e-9
    assert losses.subtrajectory_balance(terms, 0.9, torch.abs).max() < 1e-9
    assert losses.log_partition_variance(terms, torch.arange(500) // 4).max() < 1e-16


def entropy(graph: Graph, rewards: dict[Candidate, float], backward: str) -> float:
    """Of the exact flow's walks: the states' entropies, each as often as it is passed."""
    flow = graph_flow(graph, rewards, backward)
    passed = {graph.first().tobytes(): 1.0}
    total = 0.0
    for layer, rows, actions in exact.layers(graph):
        after = graph.step(layer[rows], actions)
        for index, state in enumerate(layer):
            here, mass = flow[state.tobytes()], passed[state.tobytes()]
            parts = {}
            for child in after[rows == index]:
                ways = graph.log_ways(np.array([state, child]))
                back = ways[0] - ways[1]
                if backward == "uniform":
                    back = -np.log(graph.origins(child[None]).sum())
                parts[child.tobytes()] = float(np.exp(flow[child.tobytes()] + back - here))
            for child, share in parts.items():
                passed[child] = passed.get(child, 0.0) + mass * share
            chances = np.array([*parts.values(), max(0.0, 1 - sum(parts.values()))])
            chances = chances[chances > 1e-12]
            total -= mass * float((chances * np.log(chances)).sum())
    return total


def test_walks_are_as_varied_as_can_be(graph: Graph) -> None:
    """No less than with the uniform policy, and equal to the entropy of candidates and their ways."""
    rewards = rewards_of(graph)
    uniform, maxent = (entropy(graph, rewards, kind) for kind in ("uniform", "maxent"))
    target, _ = exact.target(np.array([*rewards.values()]))
    ways = graph.log_ways(np.array([graph.state(one) for one in rewards]))
    assert maxent == pytest.approx(float((target * (ways - np.log(target))).sum()))
    assert uniform <= maxent + 1e-9


def test_the_uniform_policy_is_less_varied_on_a_grid() -> None:
    graph = GRAPHS["grid"]
    rewards = rewards_of(graph)
    assert entropy(graph, rewards, "uniform") < entropy(graph, rewards, "maxent") - 0.01


def test_walks_back_are_all_as_likely() -> None:
    graph = AnyOrder(Slots())
    made = Candidate({"depth": 2, "kind0": "conv", "kernel0": 3, "kind1": "conv", "kernel1": 5})
    rng = np.random.default_rng(0)
    walks = graph.backward([made] * 4000, by_ways(graph, rng), rng)
    orders = walks.actions.reshape(4000, -1)
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 10
    assert np.abs(counts - 400).max() < 100  # five standard deviations


@pytest.mark.parametrize("loss", ["tb", "subtb"])
@pytest.mark.parametrize("backward", ["maxent", "gsql"])
def test_the_target_is_learnt(backward: str, loss: str) -> None:
    graph = GridGraph(2, 5)
    log_rewards = rewards_of(graph)

    def rewards(found: Sequence[Candidate]) -> NDArray[np.float64]:
        return np.exp([[log_rewards[one] / 4] for one in found])

    options = TrainingOptions(
        batch=64,
        beta=BetaOptions(high=4.0, warmup=0.0),
        learning_rate=1e-2,
        width=64,
        backward=backward,
        loss=loss,
    )  # type: ignore[arg-type]
    net = GFlowNet(graph, 1, rewards, options, np.random.default_rng(0))
    net.train(250)
    found = exact.terminating_distribution(net, [1.0], 4.0)
    wanted, log_z = exact.target(np.array([log_rewards[one] for one in found]))
    assert exact.distance(np.array([*found.values()]), wanted) < 0.15
    learnt = net.log_z(Conditions(np.ones((1, 1)), np.array([4.0])))[0]
    assert learnt == pytest.approx(log_z, abs=0.15)


def test_too_many_ways_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "COUNTED", 10)
    with pytest.raises(SpecError, match="backward: uniform"):
        Uncounted(2, 9).log_ways(np.array([[8, 8]]))
