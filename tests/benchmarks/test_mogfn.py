"""What the benchmark of GFlowNets compares: sets of candidates, and regrets with their verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import _served
import mogfn
import mogfn_exact
import mogfn_ofa
import mogfn_table
import numpy as np
import pytest
from _record import Kept

from orchestrate.core import Candidate, enumerate_candidates, replay
from orchestrate.plugins.mogfn.conditions import Conditions
from orchestrate.plugins.mogfn.gflownet import GFlowNet
from orchestrate.plugins.mogfn.options import TrainingOptions
from orchestrate.plugins.mogfn.walk import Walks

TASK = _served.TASKS["grids"]["branin, currin"]


def test_a_set_is_judged_by_its_scores() -> None:
    corner = Candidate({"x0": 0, "x1": 31})
    scores = {name: compute(corner) for name, compute in TASK.problem.exact.items()}
    found = _served.judge(TASK, [corner] * 12)
    assert found["hypervolume"] == pytest.approx(scores["branin"] * scores["currin"])
    assert found["top-10 reward"] == pytest.approx((scores["branin"] + scores["currin"]) / 2)
    assert found["top-10 diversity"] == 0.0


@pytest.mark.parametrize("task", [TASK, _served.TASKS["words"]["AV, VC, CA"]], ids=["grid", "word"])
def test_peers_give_candidates_of_the_space(task: _served.Exact) -> None:
    pytest.importorskip("pymoo", reason="the extra `bench` is not installed")
    evolved, _ = _served.last_population(task, "smoke", 0)
    drawn, _ = _served.random_draws(task, "smoke", 0)
    assert len(evolved) == len(drawn) == _served.SERVED
    assert all(replay(task.problem.space, one) == one for one in (*evolved, *drawn))


def test_verdicts_are_against_the_best_peer() -> None:
    rng = np.random.default_rng(0)
    low, high = rng.normal(0.01, 0.001, 20), rng.normal(0.03, 0.001, 20)
    key = ("cifar10-pair", 200)
    better = mogfn._cell_record(key, {"mogfn-al": low, "tpe": high, "mogfn-al-gp": low / 2})
    assert better.holds
    assert "best peer tpe" in better.note
    worse = mogfn._cell_record(key, {"mogfn-al": high, "tpe": high + 0.1, "qparego": low})
    assert not worse.holds
    assert "best peer qparego (n = 20)" in worse.note
    [goal] = mogfn._goal_records({key: {"mogfn-al": low}}, "default")
    assert goal.holds
    [goal] = mogfn._goal_records({key: {"mogfn-al": high}}, "default")
    assert not goal.holds


def test_the_mean_compares_where_both_were_run() -> None:
    rng = np.random.default_rng(0)

    def around(value: float) -> np.ndarray:
        return rng.normal(value, 0.001, 5)

    first = {"mogfn-al": around(0.02), "tpe": around(0.03), "qnehvi": around(0.015)}
    second = {"mogfn-al": around(0.01), "tpe": around(0.05)}
    record = mogfn._mean_record({("cifar10-pair", 100): first, ("cifar100-pair", 100): second})
    assert record.value == pytest.approx(0.015, abs=0.002)
    assert record.peers["tpe"] == pytest.approx(0.04, abs=0.002)
    assert record.peers["qnehvi"] == pytest.approx(0.015, abs=0.002)
    assert not record.holds
    assert "closest qnehvi" in record.note
    assert "cifar10-pair, 100 trials" in record.note


def test_smaller_is_better_for_r2_alone() -> None:
    tables = {
        name: {"R2": np.full(5, value), "hypervolume": np.full(5, value)}
        for name, value in (("mogfn-pc", 0.2), ("NSGA-III", 0.3), ("random", 0.5))
    }
    assert mogfn_exact._served_record("grid", "R2", tables).holds
    assert not mogfn_exact._served_record("grid", "hypervolume", tables).holds


def test_what_is_kept_is_not_computed_again(tmp_path: Path) -> None:
    kept = Kept(len, tmp_path / "kept")
    assert kept("abc") == (3, 0.0)
    [file] = (tmp_path / "kept").iterdir()
    file.write_text("[7, 2.5]")  # a result, and the seconds that it took
    assert kept("abc") == (7, 2.5)
    assert kept("ab") == (2, 0.0)
    assert Kept(len, None)("abc") == (3, 0.0)


def test_fronts_are_compared_on_the_same_supernets() -> None:
    def search(*qualities: tuple[float, float]) -> dict[str, Any]:
        points = [list(one) for one in qualities]
        return {"qualities": points, "tested": points, "reward": 0.5, "diversity": 0.1, "seconds": 0.2}

    better = [search((0.8, 0.5), (0.5, 0.8)), *[search((0.9, 0.5), (0.5, 0.9))] * 2]
    worse = [search((0.7, 0.5)), *[search((0.8, 0.5))] * 2]
    front, tested, *rest = mogfn_ofa.records("digits", {"mogfn-al": better, "nsga2": worse})
    assert front.value == pytest.approx(1)
    assert front.peers["nsga2"] == pytest.approx(np.mean([0.35 / 0.55, 0.4 / 0.65, 0.4 / 0.65]))
    assert front.holds
    assert tested.value == pytest.approx(np.mean([0.55, 0.65, 0.65]))
    assert all(one.holds is None for one in (tested, *rest))
    few, *_ = mogfn_ofa.records("digits", {"mogfn-al": better[:2], "nsga2": worse[:2]})
    assert few.holds is None  # two supernets are no verdict


def test_a_target_is_drawn_from_as_it_is() -> None:
    rng = np.random.default_rng(0)
    space = TASK.problem.space
    cells = list(enumerate_candidates(space))[:3]

    def rewards(found: list[Candidate]) -> np.ndarray:
        return np.array([(0.2, 0.2) if one == cells[0] else (0.4, 0.4) for one in found])

    net = GFlowNet(Walks(space), 2, rewards, TrainingOptions(), rng)
    count = 7000
    drawn = mogfn_table.Drawn(net, cells).sample(
        Conditions(np.full((count, 2), 0.5), np.full(count, 2.0)), rng
    )
    shares = [drawn.count(one) / count for one in cells]
    assert shares == pytest.approx([1 / 9, 4 / 9, 4 / 9], abs=0.03)  # squares of 1, 2 and 2


def test_parts_are_compared_from_the_same_first_candidates() -> None:
    def arm(*shares: float) -> list[dict[str, float]]:
        return [{"share": one, "twice": 0.0, "seconds": 0.1} for one in shares]

    ours = arm(0.9, 0.8, 0.95)
    found = {name: arm(0.8, 0.7, 0.9) for name in mogfn_table.ARMS} | {"mogfn-al": ours}
    found["qnehvi"] = arm(0.99, 0.99, 0.99)
    share, twice, seconds, nsga2, qnehvi, enumerated, choice, learnt = mogfn_table.records(found, "default")
    assert share.value == pytest.approx(0.8833, abs=1e-3)
    assert share.holds is twice.holds is seconds.holds is None
    assert nsga2.holds
    assert nsga2.value == pytest.approx(0.25 / 3)
    assert not qnehvi.holds
    assert not enumerated.holds  # 0.08 apart, for better or for worse
    assert choice.holds
    assert learnt.holds
