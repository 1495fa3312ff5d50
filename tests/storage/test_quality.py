"""Quality indicators of a stage by the number of its trials."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from orchestrate.core import Goal
from orchestrate.core.pareto import reference_point
from orchestrate.storage.report.quality import COUNTS, choices_by_preference, quality

GOALS = (Goal("accuracy", "maximize"), Goal("cost", "minimize"), Goal("size", None, maximum=1.0))


@dataclass
class Row:
    """As much of a trial as is looked at."""

    values: dict[str, float]
    candidate: dict[str, Any] = field(default_factory=dict[str, Any])


def rows(count: int) -> list[Any]:
    rng = np.random.default_rng(1)
    return [
        Row(dict(zip(("accuracy", "cost", "size"), rng.random(3) * (1, 9, 1.2), strict=True)), {"n": n % 7})
        for n in range(count)
    ]


def found(trials: list[Any]) -> dict[int, Any]:
    points = [row.values for row in trials if row.values["size"] <= 1]
    return quality(trials, GOALS, reference_point(points, GOALS))


def test_a_search_only_gets_better() -> None:
    table = found(rows(300))
    assert len(table) <= COUNTS
    assert max(table) == 300
    for name, sign in (
        ("r2", -1),
        ("igd", -1),
        ("igd_plus", -1),
        ("preference_coverage", 1),
        ("top_10_reward", 1),
    ):
        curve = [table[count][name] for count in sorted(table) if name in table[count]]
        assert all(sign * (later - earlier) >= -1e-12 for earlier, later in pairwise(curve)), name
    assert table[300]["igd"] == table[300]["igd_plus"] == 0.0
    assert 0 < table[300]["pc_entropy"] < np.log(300)
    assert table[300]["preference_coverage"] == 1.0
    assert 0 < table[300]["top_10_diversity"] < 1
    ranked = [table[300][f"reward_percentile_{one}"] for one in (25, 50, 75)]
    assert ranked == sorted(ranked)
    assert ranked[-1] < table[300]["top_10_reward"]
    assert all(("top_10_reward" in table[count]) == (count >= 13) for count in table)  # 10 feasible


def test_units_do_not_matter() -> None:
    trials = rows(60)
    scaled = [Row({**row.values, "cost": row.values["cost"] * 1000}, row.candidate) for row in trials]
    last, other = found(trials)[60], found(scaled)[60]
    assert last == pytest.approx(other)


def test_what_breaks_a_bound_counts_as_a_trial_and_as_nothing_else() -> None:
    trials = [Row({"accuracy": 1.0, "cost": 0.0, "size": 2.0}), *rows(20)]
    assert 1 not in found(trials)
    assert found(trials)[21]["r2"] == pytest.approx(found(trials[1:])[20]["r2"])


def test_each_preference_gets_the_trial_that_serves_it() -> None:
    trials = [Row({"accuracy": a, "cost": c, "size": 0.5}) for a, c in ((0.9, 9.0), (0.8, 3.0), (0.2, 1.0))]
    trials.append(Row({"accuracy": 1.0, "cost": 0.0, "size": 2.0}))  # breaks a bound
    chosen = choices_by_preference(trials, GOALS)  # type: ignore[arg-type]
    assert chosen[-1][0].tolist() == [1.0, 0.0]
    assert chosen[-1][1] is trials[0]
    assert chosen[0][1] is trials[2]
    assert next(row for weight, row in chosen if weight[0] > 0.5) is trials[1]
    assert choices_by_preference(trials[3:], GOALS) == []  # type: ignore[arg-type]
