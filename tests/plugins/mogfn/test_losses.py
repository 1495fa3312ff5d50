"""Every loss is zero at the exact flow, and follows its definition elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from orchestrate.core import SearchSpace
from orchestrate.plugins.mogfn import losses
from orchestrate.plugins.mogfn.anyorder import AnyOrder
from orchestrate.plugins.mogfn.environment import Environment
from orchestrate.plugins.mogfn.hypergrid import HyperGrid
from orchestrate.plugins.mogfn.sequences import NGrams
from orchestrate.plugins.mogfn.walk import Walks
from tests.plugins.mogfn.spaces import Slots, chance, everything, exact_terms

GRID = HyperGrid(HyperGrid.Options(size=8))
WORDS = NGrams(NGrams.Options(alphabet="AVC", shortest=1, longest=6))
CASES: dict[str, tuple[SearchSpace, Environment]] = {
    "grid": (GRID, GRID.environment()),
    "slots": (Slots(), Walks(Slots())),
    "slots in any order": (Slots(), AnyOrder(Slots())),
    "words": (WORDS, Walks(WORDS)),
}


@pytest.fixture(params=CASES, scope="module")
def terms(request: pytest.FixtureRequest) -> losses.Terms:
    """2,000 walks by chance under the exact flow of random rewards."""
    space, environment = CASES[request.param]
    rng = np.random.default_rng(3)
    candidates = everything(space)
    rewards = dict(zip(candidates, rng.normal(0, 3, len(candidates)), strict=True))
    walks = environment.forward(2000, chance(rng), rng)
    found = exact_terms(environment, candidates, rewards, walks)
    assert float(found.log_z[0]) == pytest.approx(np.logaddexp.reduce(list(rewards.values())), abs=1e-9)
    return found


def test_the_sizes_are_those_of_the_cases() -> None:
    assert [len(everything(space)) for space, _ in CASES.values()] == [64, 84, 84, 1092]


def test_zero_at_the_exact_flow(terms: losses.Terms) -> None:
    assert losses.trajectory_balance(terms, torch.abs).max() < 1e-9
    assert losses.detailed_balance(terms, torch.abs).max() < 1e-9
    for decay in (0.5, 1.0):
        assert losses.subtrajectory_balance(terms, decay, torch.abs).max() < 1e-9
    group = torch.arange(len(terms.log_z)) // 4
    assert losses.log_partition_variance(terms, group).max() < 1e-16


def test_not_zero_beside_it(terms: losses.Terms) -> None:
    off = terms._replace(forward=terms.forward + 0.1 * terms.on)
    wrong_z = terms._replace(log_z=terms.log_z + 0.5)
    assert losses.trajectory_balance(wrong_z).numpy() == pytest.approx(0.25)
    assert losses.detailed_balance(off).numpy() == pytest.approx(0.01)
    assert (losses.trajectory_balance(off) > 0.009).all()
    assert (losses.subtrajectory_balance(off, 0.9) > 0.009).all()
    assert losses.log_partition_variance(wrong_z, torch.arange(2000) // 4).max() < 1e-16


def test_subtrajectory_balance_by_hand() -> None:
    """Three states and the reward: six parts, with the weights of the definition."""
    rng = np.random.default_rng(0)
    forward, backward, flow = (torch.tensor(rng.normal(size=(1, 3))) for _ in range(3))
    log_z, reward = torch.tensor([0.3]), torch.tensor([-1.2])
    on = torch.ones(1, 3, dtype=torch.bool)
    terms = losses.Terms(forward, backward, flow, on, log_z.double(), reward.double())
    flows = [0.3, float(flow[0, 1]), float(flow[0, 2]), -1.2]
    total = weight = 0.0
    for i in range(4):
        for j in range(i + 1, 4):
            residual = flows[i] + float((forward - backward)[0, i:j].sum()) - flows[j]
            total += 0.7 ** (j - i) * residual**2
            weight += 0.7 ** (j - i)
    assert float(losses.subtrajectory_balance(terms, 0.7)[0]) == pytest.approx(total / weight, rel=1e-6)


def test_padding_counts_for_nothing() -> None:
    """A short walk beside a long one costs what it costs alone."""
    rng = np.random.default_rng(1)
    forward, backward, flow = (torch.tensor(rng.normal(size=(2, 5))) for _ in range(3))
    on = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    z, reward = torch.tensor(rng.normal(size=2)), torch.tensor(rng.normal(size=2))
    both = losses.Terms(forward * on, backward * on, flow * on, on, z, reward)
    alone = losses.Terms(*(part[1:, :2] for part in both[:4]), z[1:], reward[1:])
    for loss in (losses.trajectory_balance, losses.detailed_balance, losses.subtrajectory_balance):
        assert float(loss(both)[1]) == pytest.approx(float(loss(alone)[0]))


@pytest.mark.parametrize("name", losses.PENALTIES)
def test_penalties_are_least_at_zero(name: losses.Penalty) -> None:
    residuals = torch.linspace(-3, 3, 13, dtype=torch.float64)
    costs = losses.PENALTIES[name](residuals)
    assert costs.argmin() == 6
    assert costs[6] == pytest.approx(0, abs=1e-12)
    assert torch.allclose(costs, costs.flip(0))
