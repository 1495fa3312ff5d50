"""Spaces, exact flows and small helpers that the GFlowNet tests share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from orchestrate.core import Candidate, Choose, SearchSpace, enumerate_candidates
from orchestrate.plugins.mogfn.environment import Environment, Graph, Trajectories
from orchestrate.plugins.mogfn.losses import Terms


class Flat(SearchSpace):
    """Four choices that know nothing of each other."""

    name = "flat"
    summary = "four free choices"

    def choices(self, choose: Choose) -> None:
        for index in range(4):
            choose.categorical(f"c{index}", list("abc"))


class Slots(SearchSpace):
    """A conditional tree of slots: depth decides how many layers there are, kind what they offer."""

    name = "slots"
    summary = "a conditional tree"

    def choices(self, choose: Choose) -> None:
        depth = choose.integer("depth", 1, 3)
        for layer in range(depth):
            if choose.categorical(f"kind{layer}", ["conv", "pool"]) == "conv":
                choose.categorical(f"kernel{layer}", [3, 5, 7])


class Rare(SearchSpace):
    """A slot that only one conjunction of three numbers shows."""

    name = "rare"
    summary = "a slot that is hard to find"

    def choices(self, choose: Choose) -> None:
        if sum(choose.integer(f"n{index}", 0, 30) == 17 for index in range(3)) == 3:
            choose.categorical("hidden", ["a", "b"])


class Described(SearchSpace):
    """A space from a description: (name, choice, conditions) in order, as Hypothesis draws them."""

    name = "described"
    summary = "drawn at random"

    def __init__(self, lines: Sequence[tuple[str, tuple[Any, ...], Mapping[str, Any]]]) -> None:
        super().__init__()
        self.lines = lines

    def choices(self, choose: Choose) -> None:
        made: dict[str, Any] = {}
        for name, (kind, *about), conditions in self.lines:
            if any(made.get(other) != wanted for other, wanted in conditions.items()):
                continue
            if kind == "categorical":
                made[name] = choose.categorical(name, [f"{name}{i}" for i in range(about[0])])
            elif kind == "integer":
                low, high, step = about
                made[name] = choose.integer(name, low, high, step=step)
            elif kind == "log":
                made[name] = choose.integer(name, about[0], about[1], log=True)
            else:
                made[name] = choose.real(name, about[0], about[1], log=about[0] > 0)


def exact_terms(
    environment: Environment,
    candidates: Sequence[Candidate],
    log_rewards: Mapping[Candidate, float],
    walks: Trajectories,
    kind: str = "uniform",
) -> Terms:
    """Terms of walks under the exact flow of log rewards, by the definition (float64)."""
    flow = graph_flow(environment, log_rewards, kind) if isinstance(environment, Graph) else None
    tree = None if flow is not None else tree_flow(environment, candidates, log_rewards)
    count, width = len(walks.candidates), int(walks.lengths.max())
    forward, backward, flows = (torch.zeros(count, width, dtype=torch.float64) for _ in range(3))
    on = torch.zeros(count, width, dtype=torch.bool)
    log_z = 0.0
    for row in range(count):
        steps = np.flatnonzero(walks.owner == row)
        keys: list[Any]
        if flow is not None:
            assert isinstance(environment, Graph)
            states = [environment.first()]
            for step in steps[:-1]:
                states.append(environment.step(states[-1][None], walks.actions[step][None])[0])
            keys = [state.tobytes() for state in states]
            here = [flow[key] for key in keys]
        else:
            assert tree is not None
            keys = [tuple(walks.actions[steps[:index]]) for index in range(len(steps))]
            here = [tree[key] for key in keys]
        log_z = here[0]
        after = [*here[1:], log_rewards[walks.candidates[row]]]
        for index, step in enumerate(steps):
            back = 0.0
            if walks.states is not None and index + 1 < len(steps):
                assert isinstance(environment, Graph)
                back = log_back(environment, walks.states[step], walks.states[step + 1], kind)
            backward[row, index] = back
            forward[row, index] = back + after[index] - here[index]
            flows[row, index] = here[index]
            on[row, index] = True
    rewards = torch.tensor([log_rewards[one] for one in walks.candidates], dtype=torch.float64)
    return Terms(forward, backward, flows, on, torch.full((count,), log_z, dtype=torch.float64), rewards)


def tree_flow(
    environment: Environment, candidates: Sequence[Candidate], log_rewards: Mapping[Candidate, float]
) -> dict[tuple[int, ...], float]:
    """log F by the actions taken: the sum of the rewards below."""
    flow: dict[tuple[int, ...], float] = {}
    walks = environment.backward(candidates, None, np.random.default_rng(0))
    for row, candidate in enumerate(walks.candidates):
        actions = walks.actions[walks.owner == row]
        for index in range(len(actions)):
            key = tuple(actions[:index])
            flow[key] = np.logaddexp(flow.get(key, -np.inf), log_rewards[candidate])
    return flow


def graph_flow(
    graph: Graph, log_rewards: Mapping[Candidate, float], backward: str = "uniform"
) -> dict[bytes, float]:
    """log F(s) = log [R(s) + Σ P_B(s | s') F(s')], from the last states back."""
    from orchestrate.plugins.mogfn.exact import layers

    flow: dict[bytes, float] = {}
    for layer, _, _ in reversed(list(layers(graph))):
        for state in layer:
            allowed = graph.allowed(state[None])[0]
            parts = [log_rewards[graph.candidate(state)]] if allowed[graph.stop] else []
            for action in np.flatnonzero(allowed[: graph.stop]):
                (child,) = graph.step(state[None], np.array([action]))
                parts.append(flow[child.tobytes()] + log_back(graph, state, child, backward))
            flow[state.tobytes()] = float(np.logaddexp.reduce(parts))
    return flow


def log_back(graph: Graph, state: NDArray[np.int64], child: NDArray[np.int64], backward: str) -> float:
    """Log P_B(state | child): uniform, or by the number of ways (maxent)."""
    if backward == "uniform":
        return -float(np.log(graph.origins(child[None]).sum()))
    return float(graph.log_ways(state[None])[0] - graph.log_ways(child[None])[0])


def chance(rng: np.random.Generator) -> Callable[..., NDArray[np.int64]]:
    """A policy that takes any allowed action."""
    from orchestrate.plugins.mogfn.environment import uniform

    return lambda rows, features, mask: uniform(mask, rng)


def everything(space: SearchSpace) -> list[Candidate]:
    return list(enumerate_candidates(space))
