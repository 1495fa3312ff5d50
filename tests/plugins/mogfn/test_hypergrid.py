"""The grid's functions have the fronts that are known of them; its graph is sound."""

from __future__ import annotations

import moocore
import numpy as np
import pytest

from orchestrate.core import Candidate
from orchestrate.core.scalarisation import simplex
from orchestrate.plugins.mogfn import exact
from orchestrate.plugins.mogfn.hypergrid import HyperGrid
from orchestrate.plugins.mogfn.scalarise import log_scalarise
from tests.plugins.mogfn.spaces import chance, everything

FRONTS = {  # size, functions: points of the front, hypervolume over the origin
    (8, ("branin", "currin")): (6, 0.955550),
    (8, ("currin", "shubert")): (11, 0.626845),
    (8, ("branin", "shubert")): (6, 0.761249),
    (8, ("branin", "currin", "shubert")): (17, 0.590019),
    (8, ("branin", "currin", "shubert", "beale")): (38, 0.373155),
    (32, ("branin", "currin")): (36, 0.982144),
    (32, ("currin", "shubert")): (32, 0.734926),
    (32, ("branin", "shubert")): (14, 0.883845),
    (32, ("branin", "currin", "shubert")): (104, 0.682080),
    (32, ("branin", "currin", "shubert", "beale")): (373, 0.449313),
}


def scores(size: int, names: tuple[str, ...]) -> np.ndarray:
    space = HyperGrid(HyperGrid.Options(size=size))
    found = [space.score(one) for one in everything(space)]
    return np.array([[score[name] for name in names] for score in found])


@pytest.mark.parametrize(("case", "known"), FRONTS.items(), ids=lambda value: str(value)[:40])
def test_fronts(case: tuple[int, tuple[str, ...]], known: tuple[int, float]) -> None:
    losses = -scores(*case)
    on = moocore.is_nondominated(losses, keep_weakly=True)
    volume = moocore.hypervolume(losses, ref=np.zeros(losses.shape[1]))
    assert (int(on.sum()), volume) == (known[0], pytest.approx(known[1], abs=1e-6))


def test_log_partition_functions() -> None:
    known = {8: (3.1778, 2.5241, 2.0045, 1.6800, 1.6015), 32: (5.9992, 5.3491, 4.8166, 4.4669, 4.3453)}
    for size, expected in known.items():
        rewards = np.maximum(scores(size, ("branin", "currin")), 0)
        for weight, log_z in zip((1, 0.75, 0.5, 0.25, 0), expected, strict=True):
            weights = np.array([weight, 1 - weight])
            found = exact.target(8 * log_scalarise("weighted-sum")(weights, rewards))[1]
            assert found == pytest.approx(log_z, abs=2e-4)


def test_a_concave_front_needs_another_scalarisation() -> None:
    """One sample for each of 64 preferences from the exact policy at β = 64, where the front is concave: a
    weighted sum misses parts of it that Tchebycheff's distance reaches.
    """
    rewards = np.maximum(scores(32, ("currin", "shubert")), 0)
    weights = simplex(2, 63)
    rng = np.random.default_rng(0)
    shares = {}
    for name in ("weighted-sum", "tchebycheff"):
        targets = [exact.target(64 * log_scalarise(name)(one, rewards))[0] for one in weights]
        drawn = [[rng.choice(len(rewards), p=one) for one in targets] for _ in range(10)]
        volumes = [moocore.hypervolume(-rewards[one], ref=np.zeros(2)) for one in drawn]
        shares[name] = np.mean(volumes) / FRONTS[32, ("currin", "shubert")][1]
    assert shares["weighted-sum"] == pytest.approx(0.930, abs=0.02)
    assert shares["tchebycheff"] == pytest.approx(0.990, abs=0.01)


def test_served_utility_tells_whether_a_preference_is_used() -> None:
    """Known values at β = 16: the exact policy, one that ignores the preference, and chance."""
    known = {
        ("branin", "currin"): (0.896, 0.855, 0.681),
        ("currin", "shubert"): (0.787, 0.672, 0.508),
        ("branin", "shubert"): (0.818, 0.732, 0.644),
    }
    weights = simplex(2, 63)
    for names, expected in known.items():
        rewards = np.maximum(scores(32, names), 0)
        targets = np.array(
            [exact.target(16 * log_scalarise("weighted-sum")(one, rewards))[0] for one in weights]
        )
        chance = np.full_like(targets, 1 / targets.shape[1])
        ignored = np.tile(targets.mean(axis=0), (len(weights), 1))
        found = [exact.served_utility(one, weights, rewards) for one in (targets, ignored, chance)]
        assert found == pytest.approx(expected, abs=1.5e-3)


def test_without_the_backward_policy_the_optimum_is_far_off() -> None:
    """Leaving P_B out of the balance makes p ∝ R times the number of ways: no loss curve shows that."""
    from math import comb

    rewards = np.maximum(scores(8, ("branin", "currin")), 0)
    log_rewards = 8 * log_scalarise("weighted-sum")(np.array([0.5, 0.5]), rewards)
    ways = np.array(
        [
            comb(int(one["x0"]) + int(one["x1"]), int(one["x0"]))
            for one in everything(HyperGrid(HyperGrid.Options(size=8)))
        ]
    )  # type: ignore[arg-type]
    right, wrong = exact.target(log_rewards)[0], exact.target(log_rewards + np.log(ways))[0]
    assert exact.distance(right, wrong) == pytest.approx(1.22, abs=0.01)
    assert exact.jensen_shannon(right, right) == pytest.approx(0)


def test_walks_back_and_forth() -> None:
    space = HyperGrid(HyperGrid.Options(size=5, dimensions=3))
    graph, rng = space.environment(), np.random.default_rng(0)
    made = graph.forward(50, chance(rng), rng)
    again = graph.backward(made.candidates, None, rng)
    assert list(again.candidates) == list(made.candidates)
    for walks in (made, again):
        assert walks.parents is not None
        assert walks.mask[np.arange(len(walks.actions)), walks.actions].all()
        starts = np.searchsorted(walks.owner, np.arange(50))
        assert not walks.parents[starts].any()
        inner = np.setdiff1d(np.arange(len(walks.owner)), starts)
        assert walks.parents[inner, walks.actions[inner - 1]].all()
        for candidate, length in zip(walks.candidates, walks.lengths, strict=True):
            assert length == 1 + sum(candidate.values())  # type: ignore[arg-type]
    assert graph.candidate(graph.state(Candidate({"x0": 1, "x1": 4, "x2": 0})))["x1"] == 4
    assert sum(len(layer) for layer, _, _ in exact.layers(graph)) == space.size()
