"""Training reaches the target for every preference, and fails where it should."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from orchestrate.core import Candidate
from orchestrate.plugins.mogfn import exact, losses
from orchestrate.plugins.mogfn.conditions import BetaOptions, Conditions
from orchestrate.plugins.mogfn.environment import Bools, Graph, Integers, Trajectories
from orchestrate.plugins.mogfn.gflownet import GFlowNet
from orchestrate.plugins.mogfn.hypergrid import GridGraph, HyperGrid
from orchestrate.plugins.mogfn.memory import Memory
from orchestrate.plugins.mogfn.options import TrainingOptions
from orchestrate.plugins.mogfn.walk import Walks
from tests.plugins.mogfn.spaces import Slots, everything


def scored(space: HyperGrid) -> dict[Candidate, NDArray[np.float64]]:
    return {
        one: np.maximum([space.score(one)["branin"], space.score(one)["currin"]], 0)
        for one in everything(space)
    }


SPACE = HyperGrid(HyperGrid.Options(size=5))
SCORES = scored(SPACE)
CELLS = list(SCORES)
TABLE = np.array([SCORES[one] for one in CELLS])
Rewards = NDArray[np.float64]
SEEN = [(1.0, 0.0), (0.75, 0.25), (0.5, 0.5), (0.25, 0.75), (0.0, 1.0)]
HELD_OUT = [(0.9, 0.1), (0.4, 0.6)]


def rewards(candidates: Sequence[Candidate]) -> NDArray[np.float64]:
    return np.array([SCORES[one] for one in candidates])


def net(
    beta: float,
    seed: int = 0,
    *,
    kind: type[GFlowNet] = GFlowNet,
    environment: Graph | None = None,
    **options: Any,
) -> GFlowNet:
    training = TrainingOptions(
        batch=64, beta=BetaOptions(high=beta, warmup=0.0), learning_rate=1e-2, width=64, **options
    )
    return kind(environment or SPACE.environment(), 2, rewards, training, np.random.default_rng(seed))


def errors(
    trained: GFlowNet,
    weights: tuple[float, ...],
    beta: float,
    scores: Mapping[Candidate, NDArray[np.float64]] = SCORES,
) -> tuple[float, float, float]:
    """L1 and Jensen-Shannon distance to the target, and the error of log Z."""
    found = exact.terminating_distribution(trained, weights, beta)
    reached = np.array([found.get(one, 0.0) for one in scores])
    assert reached.sum() == pytest.approx(1)
    table = np.array(list(scores.values()))
    wanted, log_z = exact.target(beta * trained.log_scalarise(np.array(weights), table))
    learnt = trained.log_z(Conditions(np.array([weights]), np.array([beta])))[0]
    return exact.distance(reached, wanted), exact.jensen_shannon(reached, wanted), abs(learnt - log_z)


LARGE = HyperGrid(HyperGrid.Options(size=8))
LARGE_SCORES = scored(LARGE)


@pytest.fixture(scope="module")
def trained() -> GFlowNet:
    """A policy on 8 x 8 cells at β = 8. The benchmark trains it longer, with three seeds."""
    options = TrainingOptions(batch=64, beta=BetaOptions(high=8.0, warmup=0.0), learning_rate=5e-3, width=64)
    found = GFlowNet(
        LARGE.environment(),
        2,
        lambda cells: np.array([LARGE_SCORES[one] for one in cells]),
        options,
        np.random.default_rng(0),
    )
    found.train(1000)
    return found


@pytest.mark.parametrize("preferences", [SEEN, HELD_OUT], ids=["seen", "held out"])
def test_the_target_is_reached_for_every_preference(
    trained: GFlowNet, preferences: list[tuple[float, ...]]
) -> None:
    found = [errors(trained, one, 8.0, LARGE_SCORES) for one in preferences]
    distances, divergences, log_z = np.array(found).T
    assert distances.mean() < 0.12
    assert distances.max() < 0.25
    assert divergences.mean() < 5e-3
    assert log_z.max() < 0.15


def test_the_preference_is_used(trained: GFlowNet) -> None:
    """Served utility: most of the way from a policy that ignores preferences to the exact one."""
    grid = np.column_stack([np.linspace(0, 1, 17), 1 - np.linspace(0, 1, 17)])
    cells, reached = exact.terminating_distributions(trained, grid, 8.0)
    table = np.array([LARGE_SCORES[one] for one in cells])
    targets = np.array([exact.target(8 * trained.log_scalarise(one, table))[0] for one in grid])
    ignored = np.tile(targets.mean(axis=0), (len(grid), 1))
    low, high, here = (exact.served_utility(p, grid, table) for p in (ignored, targets, reached))
    assert low < high
    assert (here - low) / (high - low) > 0.85
    wrong = exact.served_utility(reached[::-1], grid, table)  # the preference mixed up on its way
    assert (wrong - low) / (high - low) < 0


class Lost(GFlowNet):
    """Rewards under one preference, a policy told another."""

    def terms(
        self, walks: Trajectories, conditions: Conditions, rewards: NDArray[np.float64]
    ) -> losses.Terms:
        order = np.random.default_rng(self.step_number).permutation(len(conditions))
        return _judged(super().terms(walks, conditions, rewards), self, conditions.weights[order], rewards)


class Stale(GFlowNet):
    """Replayed candidates keep the reward of the preference under which they were first made."""

    def terms(
        self, walks: Trajectories, conditions: Conditions, rewards: NDArray[np.float64]
    ) -> losses.Terms:
        self.first = getattr(self, "first", {})
        pairs = zip(walks.candidates, conditions.weights, strict=True)
        weights = [self.first.setdefault(one, weight) for one, weight in pairs]
        return _judged(super().terms(walks, conditions, rewards), self, np.array(weights), rewards)


class Unconditional(GFlowNet):
    """One Z for all preferences."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        first = self.policy.log_z[0]
        assert isinstance(first, torch.nn.Linear)
        with torch.no_grad():
            first.weight.zero_()
        first.weight.requires_grad_(False)


def _judged(
    terms: losses.Terms, net: GFlowNet, weights: NDArray[np.float64], found: NDArray[np.float64]
) -> losses.Terms:
    beta = net.options.beta.high
    return terms._replace(log_reward=torch.as_tensor(beta * net.log_scalarise(weights, found)))


class OffByOne(GridGraph):
    """Its mask ends a cell before the edge does."""

    def allowed(self, states: Integers) -> Bools:
        return np.column_stack([states < self.size - 2, np.ones(len(states), np.bool_)])


FAULTS: dict[str, tuple[type[GFlowNet], Graph]] = {
    "preference shuffled": (Lost, SPACE.environment()),
    "preference stale on replay": (Stale, SPACE.environment()),
    "one Z": (Unconditional, SPACE.environment()),
    "mask off by one": (GFlowNet, OffByOne(2, SPACE.options.size)),
}


def distances(kind: type[GFlowNet], environment: Graph) -> tuple[float, float]:
    """L1 to the target after a short training, mean over preferences, and the largest error of log Z."""
    one = net(8.0, kind=kind, environment=environment)
    one.train(400)
    found, _, log_z = np.array([errors(one, weights, 8.0) for weights in SEEN]).T
    return float(found.mean()), float(log_z.max())


@pytest.fixture(scope="module")
def right() -> tuple[float, float]:
    return distances(GFlowNet, SPACE.environment())


def test_a_short_training_comes_near(right: tuple[float, float]) -> None:
    assert right[0] < 0.15
    assert right[1] < 0.25


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_noticed(fault: str, right: tuple[float, float]) -> None:
    """The same training with one fault: the distance to the target tells it from the right one."""
    distance, log_z = distances(*FAULTS[fault])
    assert distance > 1.3 * right[0]
    assert log_z > 0.5


def test_gradients() -> None:
    """Analytic gradients of each loss agree with finite differences (float64)."""
    for loss in ("tb", "db", "subtb", "vargrad"):
        options = TrainingOptions(loss=loss, batch=8, group=4, width=8, depth=2, backward="learned")  # type: ignore[arg-type]
        rng = np.random.default_rng(0)
        one = GFlowNet(SPACE.environment(), 2, rewards, options, rng, dtype=torch.float64)
        with torch.no_grad():
            for parameter in one.policy.parameters():
                parameter.add_(torch.as_tensor(0.1 * rng.standard_normal(parameter.shape)))
        conditions = one.draw_conditions()
        walks, order = one.collect(conditions)
        found = rewards(walks.candidates)
        group = order // options.group

        def value(
            one: GFlowNet = one,
            walks: Any = walks,
            c: Conditions = conditions[order],
            found: Any = found,
            group: Any = group,
        ) -> torch.Tensor:
            if one.options.loss == "vargrad":  # without the part by which log Z follows the estimates
                terms = one.terms(walks, c, found)
                return losses.log_partition_variance(terms, torch.as_tensor(group)).mean()
            return one.loss(walks, c, found, group)

        value().backward()
        for name, parameter in one.policy.named_parameters():
            if parameter.grad is None:
                assert "flow" in name or (loss == "vargrad" and "log_z" in name)
                continue
            flat, place = parameter.data.view(-1), int(rng.integers(parameter.numel()))
            before, step = float(flat[place]), 1e-6
            with torch.no_grad():
                flat[place] = before + step
                up = float(value())
                flat[place] = before - step
                down = float(value())
                flat[place] = before
            assert float(parameter.grad.view(-1)[place]) == pytest.approx(
                (up - down) / (2 * step), rel=1e-3, abs=1e-5
            ), (loss, name)


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "db"},
        {"loss": "subtb"},
        {"loss": "vargrad"},
        {"backward": "learned"},
        {"local_search": 2, "replay": 0.0},
        {"preferences": "k-means", "fixed": 16},
        {"replay": 0.0, "penalty": "huber"},
        {"average": 0.9, "encoding": "thermometer", "conditioning": "film"},
        {"tempering": 2.0, "annealing": True},
        {"scalarisation": "augmented-tchebycheff", "encoding": "raw"},
    ],
    ids=str,
)
def test_every_option_learns(options: dict[str, Any]) -> None:
    one = net(2.0, **options)
    before = np.mean([errors(one, weights, 2.0)[0] for weights in SEEN])
    one.train(120)
    after = np.mean([errors(one, weights, 2.0)[0] for weights in SEEN])
    assert after < 0.5 * before


def test_fixed_preferences_are_all_that_is_trained_on() -> None:
    one = net(2.0, preferences="lattice", fixed=5)
    drawn = np.concatenate([one.draw_conditions().weights for _ in range(20)])
    assert np.unique(drawn, axis=0).tolist() == [[k / 4, 1 - k / 4] for k in range(5)]


def test_a_temperature_may_be_asked_for() -> None:
    options = TrainingOptions(
        batch=64, beta=BetaOptions(distribution="uniform", low=0.5, high=8.0), learning_rate=5e-3, width=64
    )
    one = GFlowNet(SPACE.environment(), 2, rewards, options, np.random.default_rng(0))
    one.train(120)
    sharp = exact.terminating_distribution(one, (0.5, 0.5), 8.0)
    flat = exact.terminating_distribution(one, (0.5, 0.5), 0.5)

    def mean(found: dict[Candidate, float]) -> float:
        return sum(p * float(SCORES[cell].mean()) for cell, p in found.items())

    assert mean(sharp) > mean(flat) + 0.05


def test_one_seed_one_policy() -> None:
    first, second, other = (net(4.0, seed) for seed in (1, 1, 2))
    for one in (first, second, other):
        torch.manual_seed(int.from_bytes(np.random.bytes(4), "little"))  # noqa: NPY002
        one.train(5)
    conditions = Conditions(np.tile([[0.3, 0.7]], (100, 1)), np.full(100, 4.0))
    drawn = [one.sample(conditions, np.random.default_rng(0)) for one in (first, second, other)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_log_probabilities_of_a_tree_sum_to_one() -> None:
    space = Slots()
    one = GFlowNet(
        Walks(space),
        2,
        lambda found: np.ones((len(found), 2)),
        TrainingOptions(steps=1),
        np.random.default_rng(0),
    )
    one.train(5)
    cells = everything(space)
    conditions = Conditions(np.tile([[0.5, 0.5]], (len(cells), 1)), np.full(len(cells), 24.0))
    assert np.exp(one.log_probability(cells, conditions)).sum() == pytest.approx(1, abs=1e-5)
    with pytest.raises(TypeError, match="graph"):
        net(1.0).log_probability(CELLS[:1], conditions[:1])


def test_the_memory_keeps_vectors_and_forgets_the_oldest() -> None:
    """A preference makes one number of a reward when it is drawn, so that none goes stale."""
    memory = Memory(5)
    memory.add(CELLS[:7], TABLE[:7])
    memory.add(CELLS[3:4], TABLE[3:4] + 1)
    assert len(memory) == 5
    rng = np.random.default_rng(0)
    for column in (0, 1):
        best = int(np.argmax(np.where(np.arange(7) == 3, 9.0, TABLE[:7, column])[2:])) + 2
        drawn = memory.draw(lambda found, column=column: np.tile(found[:, column], (200, 1)), rng)
        assert set(drawn) <= set(CELLS[2:7])
        assert drawn.count(CELLS[best]) > 80
