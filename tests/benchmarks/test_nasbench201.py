"""The regret is measured against the whole table: 0 is the best there is, and more trials never hurt."""

from __future__ import annotations

import nasbench201
import numpy as np
import pytest

from orchestrate.core import enumerate_candidates
from orchestrate.plugins.nasbench.space import NasBench201
from orchestrate.plugins.nasbench.table import load

Scored = tuple[nasbench201.Measure, nasbench201.Points]


@pytest.fixture(scope="module")
def scored() -> Scored:
    table = load("cifar10")
    points = [nasbench201.point(table, candidate) for candidate in enumerate_candidates(NasBench201())]
    return nasbench201.Measure(table), np.array(points)


def test_the_whole_table_leaves_no_regret(scored: Scored) -> None:
    measure, points = scored
    assert measure.regret(points) == pytest.approx(0, abs=1e-12)
    assert measure.best < 1


def test_regret_of_one_cell_by_hand(scored: Scored) -> None:
    measure, points = scored
    low, high = points.min(axis=0), points.max(axis=0)
    one = points[[4321]]
    area = float(np.prod((high - one[0]) / (high - low)))
    assert measure.regret(one) == pytest.approx(measure.best - area)


def test_more_trials_never_raise_it(scored: Scored) -> None:
    measure, points = scored
    order = np.random.default_rng(0).permutation(len(points))[:200]
    curve = [measure.regret(points[order[:count]]) for count in range(1, 201, 20)]
    assert curve == sorted(curve, reverse=True)
    assert curve[0] > curve[-1] > 0


def test_optuna_s_study_counts_every_trial() -> None:
    from optuna.samplers import RandomSampler

    points = nasbench201.with_optuna(RandomSampler(seed=0), 7, load("cifar10"))
    assert points.shape == (7, 2)
    assert ((points > 0) & (points < 1)).all()


def test_verdicts() -> None:
    rng = np.random.default_rng(0)
    same, worse = rng.normal(0.05, 0.01, (2, 20, 1)), rng.normal(0.08, 0.01, (20, 1))
    none = np.zeros(2)
    found = {
        "random": {"strays": none, "ours": worse, "theirs": rng.normal(0.08, 0.01, (20, 1))},
        "tpe": {"strays": none, "ours": same[0], "theirs": same[1]},
        "nsga2": {"strays": none, "ours": worse, "theirs": same[1]},
        "evolution": {"strays": none + 1, "ours": same[0]},
    }
    records = {record.claim: record for record in nasbench201.as_records(found, (200,))}
    same_trials = {
        claim.partition(":")[0]: records.pop(claim).holds for claim in list(records) if "a job" in claim
    }
    assert same_trials == {"random": True, "tpe": True, "nsga2": True, "evolution": False}
    records = {claim.split(",")[0]: record for claim, record in records.items()}
    verdicts = {name: record.holds for name, record in records.items()}
    assert verdicts == {"random": True, "tpe": True, "nsga2": False, "evolution": True}
    assert records["evolution"].peers["Optuna's random"] == pytest.approx(0.08, abs=0.01)


def test_alone_a_sampler_is_asked_and_told_in_turn() -> None:
    data = nasbench201.job({"name": "evolution", "population": 5, "tournament": 2}, 3, 12)
    points, seconds = nasbench201.alone(data, load("cifar10"))
    assert points.shape == (12, 2)
    assert len(seconds) == 12
    assert (points == nasbench201.alone(data, load("cifar10"))[0]).all()
