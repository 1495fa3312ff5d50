"""Goals that are out of reach, and what is learnt of them."""

from __future__ import annotations

import numpy as np

from orchestrate.core import Candidate
from orchestrate.plugins.mogfn.conditions import BetaOptions
from orchestrate.plugins.mogfn.gflownet import GFlowNet
from orchestrate.plugins.mogfn.goals import MISSED, Reachable
from orchestrate.plugins.mogfn.options import TrainingOptions
from orchestrate.plugins.mogfn.scalarise import FOCUS, cosine
from orchestrate.plugins.mogfn.walk import Walks
from tests.plugins.mogfn.spaces import Flat, everything


def test_only_where_goals_were_told_and_all_missed_are_they_rarely_drawn() -> None:
    goals = np.array([[0.05, 0.95], [0.45, 0.55], [0.95, 0.05]])
    table = Reachable()
    assert table.weigh(goals).tolist() == [1, 1, 1]
    table.learn(goals[:2], np.array([[0.8, 0.2], [0.45, 0.5]]))  # the first misses, the second is met
    assert table.weigh(goals).tolist() == [MISSED, 1, 1]
    table.learn(goals[2:], np.zeros((1, 2)))
    assert table.weigh(goals).tolist() == [MISSED, 1, MISSED]
    table.learn(goals[1:2], np.array([[0.9, 0.05]]))  # a walk for another goal leads there
    assert table.weigh(goals).tolist() == [MISSED, 1, 1]
    drawn = table.choose(np.repeat(goals, 500, axis=0), 300, np.random.default_rng(0))
    assert 5 < (drawn[:, 0] < 0.1).sum() < 30


def rewards(candidates: list[Candidate]) -> np.ndarray:
    """Between the even direction and the first objective's: of the other half none can be reached."""
    words = ["".join(map(str, one.values())) for one in candidates]
    angles = [np.pi / 4 * word.count("a") / 4 for word in words]
    return np.column_stack([np.cos(angles), np.sin(angles)])


def test_training_turns_to_goals_that_can_be_reached() -> None:
    space = Flat()
    directions = rewards(everything(space))
    shares: dict[str, float] = {}
    for preferences in ("dirichlet", "reachable"):
        options = TrainingOptions(
            scalarisation="goal",
            preferences=preferences,  # type: ignore[arg-type]
            batch=64,
            steps=100,
            width=32,
            depth=2,
            learning_rate=1e-2,
            beta=BetaOptions(high=8.0),
        )
        net = GFlowNet(Walks(space), 2, rewards, options, np.random.default_rng(0))  # type: ignore[arg-type]
        net.train()
        goals = np.concatenate([net.draw_conditions().weights for _ in range(30)])
        met = cosine(goals[:, None], directions[None]).max(axis=1) >= FOCUS
        shares[preferences] = float(met.mean())
    assert shares["dirichlet"] < 0.75
    assert shares["reachable"] > 0.85
