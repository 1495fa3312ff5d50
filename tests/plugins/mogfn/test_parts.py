"""Conditions, scales, improvement, surrogates: each against values that are known."""

from __future__ import annotations

import moocore
import numpy as np
import pytest
import torch
from scipy.stats import t as student

from orchestrate.core import Goal
from orchestrate.plugins.mogfn import rewards
from orchestrate.plugins.mogfn.conditions import (
    BetaOptions,
    Conditions,
    Encoder,
    clustered,
    even,
    thermometer,
)
from orchestrate.plugins.mogfn.ensemble import Ensemble, Surrogate
from orchestrate.plugins.mogfn.evidential import Evidence, Evidential, loss
from orchestrate.plugins.mogfn.improvement import Improvement, choose, directions, hypervolume
from orchestrate.plugins.mogfn.model import unwarped, warped
from orchestrate.plugins.mogfn.options import TrainingOptions
from orchestrate.plugins.mogfn.parents import parents
from orchestrate.plugins.mogfn.scalarise import FOCUS, LEAST, log_scalarise


def test_a_thermometer_reaches_its_last_bin() -> None:
    found = thermometer(np.array([[0.0], [0.3], [0.5], [1.0]]), 4)
    assert found == pytest.approx(np.array([[0, 0, 0, 0], [1, 0.2, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]))


@pytest.mark.parametrize("encoding", ["raw", "thermometer", "both"])
def test_conditions_that_differ_look_different(encoding: str) -> None:
    encoder = Encoder(2, encoding, 8, BetaOptions(high=10.0))  # type: ignore[arg-type]
    weights = np.column_stack([np.linspace(0, 1, 11), 1 - np.linspace(0, 1, 11)])
    found = encoder.encode(Conditions(weights, np.full(11, 5.0)))
    assert found.shape == (11, encoder.features)
    assert len(np.unique(found, axis=0)) == 11
    assert not np.array_equal(found[:1], encoder.encode(Conditions(weights[:1], np.full(1, 6.0))))


def test_even_preferences() -> None:
    for objectives in (1, 2, 3, 4):
        found = even(objectives, 40)
        assert len(found) >= 40
        assert found.sum(axis=1) == pytest.approx(1)
        assert objectives == 1 or len(np.unique(found, axis=0)) == len(found)


@pytest.mark.parametrize("objectives", [1, 2, 3, 5])
def test_clustered_preferences_cover_the_simplex(objectives: int) -> None:
    found = clustered(objectives, 40)
    assert found.shape == (40, objectives)
    assert found.sum(axis=1) == pytest.approx(1)
    assert found.mean(axis=0) == pytest.approx(1 / objectives, abs=0.05)
    assert np.array_equal(found, clustered(objectives, 40))
    drawn = np.random.default_rng(1).dirichlet(np.ones(objectives), 2000)
    random = np.random.default_rng(2).dirichlet(np.ones(objectives), 40)

    def away(centres: np.ndarray) -> float:
        return float(np.linalg.norm(drawn[:, None] - centres, axis=2).min(axis=1).mean())

    assert objectives == 1 or away(found) < 0.9 * away(random)


def test_clusters_lie_inside_where_a_lattice_lies_on_the_rim() -> None:
    assert (even(5, 64) == 0).any(axis=1).all()
    assert (clustered(5, 64) > 0).all()


@pytest.mark.parametrize("distribution", ["constant", "uniform", "log-uniform", "gamma", "beta"])
def test_temperatures_stay_in_range(distribution: str) -> None:
    options = BetaOptions(distribution=distribution, low=2.0, high=10.0)  # type: ignore[arg-type]
    drawn = options.draw(2000, np.random.default_rng(0))
    assert drawn.max() <= 10
    means = {"constant": 10.0, "uniform": 6.0, "log-uniform": 8 / np.log(5), "beta": 6.0}
    if distribution in means:
        assert drawn.min() >= 2
        assert drawn.mean() == pytest.approx(means[distribution], rel=0.05)


def test_a_scale_is_the_same_whatever_sense_and_unit() -> None:
    up = rewards.scale(Goal("a", "maximize"), [1.0, 3.0], None, log=False)
    down = rewards.scale(Goal("b", "minimize"), [10.0, 1000.0], None, log=True)
    found = rewards.table([up, down], [{"a": 3.0, "b": 100.0}, {"a": 2.0, "b": 10.0}])
    assert found == pytest.approx(np.array([[1, 0.5], [0.5, 1]]))
    assert down.value(np.array([0.5])) == pytest.approx([100.0])
    assert rewards.scale(Goal("a", "maximize"), [0.0, 5.0], None, log=True).log is False
    flat = rewards.scale(Goal("a", "maximize"), [2.0, 2.0], None, log=False)
    assert flat.reward(np.array([2.0])) == pytest.approx([0.5])
    declared = rewards.scale(Goal("a", "maximize"), [0.4], (0.0, 1.0), log=False)
    assert declared.reward(np.array([0.4])) == pytest.approx([0.4])
    assert unwarped(warped(np.array([-0.5, 0.0, 0.7, 1.05]))) == pytest.approx([-0.5, 0.0, 0.7, 1.05])


def test_goals_are_met_in_their_direction_alone() -> None:
    towards = log_scalarise("goal")
    goal = np.array([[0.5, 0.5]])
    inside, rim = towards(goal, np.array([[0.8, 0.8]])), towards(goal, np.array([[0.8, 0.8 * 0.75]]))
    assert inside == pytest.approx(np.log(0.8))
    assert rim < inside
    assert towards(goal, np.array([[0.9, 0.1]])) == pytest.approx(np.log(LEAST))
    turn = np.arccos(FOCUS) * 0.999
    edge = np.array([[np.cos(np.pi / 4 + turn), np.sin(np.pi / 4 + turn)]])
    assert np.exp(towards(goal, edge))[0] == pytest.approx(0.1 * edge.mean(), rel=0.05)
    for name in ("weighted-sum", "weighted-log-sum", "augmented-tchebycheff"):
        assert np.isfinite(log_scalarise(name)(goal, np.zeros((1, 2)))).all()


def test_parents_are_the_front_and_then_what_was_on_it() -> None:
    """Points a to f; the front is d alone. On it when they came: a, c, d. b, e and f never were."""
    goals = (Goal("x", "maximize"), Goal("y", "maximize"))
    points = [{"x": x, "y": y} for x, y in ((3, 3), (2, 2), (4, 1), (5, 5), (1, 4), (4, 4))]
    counts = np.zeros((7, 6), np.int64)
    for least in range(7):
        for seed in range(100):
            found = parents(points, goals, least, np.random.default_rng(seed))
            assert len(set(found)) == len(found) == max(1, least)
            counts[least, found] += 1
    assert counts[1].tolist() == counts[0].tolist() == [0, 0, 0, 100, 0, 0]
    # Ranks of a: 3 of 5 values, 3 of 5 (worst 3); of c: 2 and 5 (worst 5). So a is taken with 5/8.
    assert counts[2, [1, 4, 5]].sum() == 0
    assert counts[2, 0] / 100 == pytest.approx(5 / 8, abs=0.12)
    assert counts[3].tolist() == [100, 0, 100, 100, 0, 0]
    assert counts[4, 5] > counts[4, 1] > 0
    assert (counts[6] == 100).all()
    bounded = (*goals, Goal("z", None, maximum=0))
    broken = [{**point, "z": 1.0} for point in points]
    assert parents(broken, bounded, 2, np.random.default_rng(0)) == [*range(6)]


def test_hypervolume_by_hand() -> None:
    points = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])
    assert hypervolume(points, directions(2, 20_000, np.random.default_rng(0))) == pytest.approx(6, rel=1e-3)
    points = np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 1.0], [3.0, 1.0, 2.0]])
    assert hypervolume(points, directions(3, 40_000, np.random.default_rng(0))) == pytest.approx(13, rel=0.02)
    assert hypervolume(np.zeros((0, 2)), directions(2, 10, np.random.default_rng(0))) == 0


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_improvement_is_the_gain_in_hypervolume(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    front, new = rng.random((8, objectives)), rng.random((6, objectives)) * 1.2
    rays = directions(objectives, 30_000, rng)
    found = Improvement(front[None], rays).expected(new[None], np.ones(6))
    zero = np.zeros(objectives)
    before = moocore.hypervolume(-front, ref=zero)
    gains = [moocore.hypervolume(-np.vstack([front, one]), ref=zero) - before for one in new]
    assert found == pytest.approx(gains, rel=0.1, abs=0.01)


def test_a_batch_is_chosen_jointly() -> None:
    """Of two candidates that improve the front equally in one place, only one is taken."""
    rays = directions(2, 500, np.random.default_rng(0))
    samples = np.array([[[0.9, 0.2], [0.9, 0.19], [0.2, 0.85], [0.5, 0.1]]])
    front = np.array([[[0.4, 0.4]]])
    chosen = choose(Improvement(front, rays), samples, np.ones(4), 2, lambda one, other: True)
    assert {index for index, _ in chosen} == {0, 2}
    assert chosen[0][1] >= chosen[1][1] > 0
    unlikely = choose(
        Improvement(front, rays), samples, np.array([0.01, 1, 1, 1]), 1, lambda one, other: True
    )
    assert unlikely[0][0] != 0
    apart = choose(
        Improvement(front, rays), samples, np.ones(4), 2, lambda one, other: {one, other} != {0, 2}
    )
    assert {index for index, _ in apart} != {0, 2}
    everyone = choose(Improvement(front, rays), samples, np.ones(4), 9, lambda one, other: False)
    assert sorted(index for index, _ in everyone) == [0, 1, 2, 3]


def smooth(features: np.ndarray) -> np.ndarray:
    return np.column_stack(
        [features @ np.linspace(-1, 1, features.shape[1]), features[:, 0] * features[:, 1]]
    )


@pytest.mark.parametrize("name", ["ensemble", "evidential", "gp"])
def test_a_surrogate_predicts_and_knows_what_it_does_not(name: str) -> None:
    rng = np.random.default_rng(0)
    features = (rng.random((160, 8)) < 0.5).astype(np.float32)
    values = smooth(features) + 0.02 * rng.standard_normal((160, 2))
    if name == "gp":
        pytest.importorskip("gpytorch")
        from orchestrate.plugins.mogfn.gaussian import GaussianProcesses

        model: Surrogate = GaussianProcesses(features[:80], values[:80], rng)
    else:
        model = {"ensemble": Ensemble, "evidential": Evidential}[name](features[:80], values[:80], rng)
    mean, deviation = model.predict(features[80:])
    errors = np.abs(mean - smooth(features[80:]))
    assert (errors.mean(axis=0) < 0.2 * values.std(axis=0)).all()
    assert (np.mean(errors < 3 * deviation, axis=0) > 0.9).all()
    far = model.predict(4 * features[80:] + 4)[1]
    assert (far.mean(axis=0) > 1.5 * deviation.mean(axis=0)).all()
    assert (model.error < values.std(axis=0)).all()
    # Functions that may be true: each its own, and together what was predicted.
    drawn = np.array([model.path(np.random.default_rng(seed))(features[80:]) for seed in range(200)])
    assert np.abs(drawn.mean(axis=0) - mean).max() < 0.5 * deviation.max()
    assert drawn.std(axis=0).mean(axis=0) == pytest.approx(deviation.mean(axis=0), rel=0.25)
    path = model.path(np.random.default_rng(0))
    assert np.array_equal(path(features[80:]), path(features[80:]))
    assert np.array_equal(path(features[80:]), drawn[0])


def test_evidence_is_a_student_distribution_and_its_variances_are_two() -> None:
    """By hand: nu = alpha = 2 and beta = 1 make E[σ²] = 1 and Var[μ] = 1/2. -log p is that of Student's t."""
    one = Evidence(*torch.tensor([0.0, 2.0, 2.0, 1.0], dtype=torch.float64))
    assert (float(one.aleatoric), float(one.epistemic)) == (1.0, 0.5)
    rng = np.random.default_rng(0)
    gamma, targets = rng.standard_normal((2, 50))
    nu, beta = rng.uniform(0.1, 3, (2, 50))
    alpha = rng.uniform(1.1, 4, 50)
    found = Evidence(*(torch.as_tensor(part) for part in (gamma, nu, alpha, beta)))
    scale = np.sqrt(beta * (1 + nu) / (nu * alpha))
    surprise = -student.logpdf(targets, 2 * alpha, gamma, scale)
    assert loss(found, torch.as_tensor(targets), 0.0).numpy() == pytest.approx(surprise)
    penalty = loss(found, torch.as_tensor(targets), 0.3).numpy() - surprise
    assert penalty == pytest.approx(0.3 * np.abs(targets - gamma) * (2 * nu + alpha))


@pytest.mark.parametrize("seed", range(3))
def test_evidence_runs_out_away_from_the_data(seed: int) -> None:
    rng = np.random.default_rng(seed)
    places = np.linspace(-1, 1, 60, dtype=np.float32)[:, None]
    values = np.sin(3 * places) + 0.05 * rng.standard_normal(places.shape)
    deviation = Evidential(places, values, rng).predict
    among = deviation(places)[1].max()
    for far in (np.float32([[-2]]), np.float32([[2]])):
        assert deviation(2 * far)[1] > deviation(far)[1] > among


def test_options_that_contradict_each_other_are_refused() -> None:
    for wrong in (
        {"batch": 10, "group": 4},
        {"loss": "vargrad", "group": 1},
        {"loss": "vargrad", "scalarisation": "goal"},
        {"preferences": "reachable"},
        {"alpha": 0.0},
        {"beta": {"distribution": "uniform", "low": 30.0}},
    ):
        with pytest.raises(ValueError, match=r"batch|vargrad|reachable|alpha|low"):
            TrainingOptions.model_validate(wrong)
