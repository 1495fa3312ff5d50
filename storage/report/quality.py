"""Quality indicators of a stage by the number of its scored trials.

All share one scale: from the best value of each goal in the stage to the hypervolume's reference point.
So they compare within a stage, and between stages only where goals declare a `reference` and the best
values are alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...core.indicators import (
    Scale,
    coverage,
    igd,
    igd_plus,
    pc_entropy,
    preferences,
    r2,
    reward_percentile,
    top_k_diversity,
    top_k_reward,
)
from ...core.objective import Goal
from ...core.pareto import feasible, losses, pareto_indices, reference_point
from ...core.scalarisation import scalarise
from ..models import TrialRow

Floats = NDArray[np.float64]

COUNTS = 50
"""At most so many counts of trials get indicators, evenly spread, the last among them."""
TOP = 10
PERCENTILES = (25, 50, 75)
"""Of all trials' rewards: what an average proposal is worth, beside the best ones."""


def quality(
    ordered: Sequence[TrialRow], goals: Sequence[Goal], corner: Sequence[float]
) -> dict[int, dict[str, float]]:
    """Indicators by count of scored trials; counts without a feasible trial have none, and the best ten
    are looked at once there are ten.

    `igd`, `igd_plus` and `preference_coverage` compare with the stage's final front, so they end at 0, 0
    and 1; `pc_entropy` counts for which of its points a trial is nearest.

    Args:
        ordered: the scored trials, in the order in which they ended.
        goals: the stage's goals, of which two or more are optimised.
        corner: the hypervolume's reference point, in loss form.
    """
    counts = [count for count, trial in enumerate(ordered, start=1) if feasible(trial.values, goals)]
    trials = [ordered[count - 1] for count in counts]
    if not trials:
        return {}
    points = [trial.values for trial in trials]
    scale = Scale(losses(points, goals).min(axis=0), np.asarray(corner, dtype=np.float64))
    qualities = scale.qualities(points, goals)
    candidates = [trial.candidate for trial in trials]
    front = qualities[pareto_indices(points, goals)]
    weights = preferences(qualities.shape[1])
    found: dict[int, dict[str, float]] = {}
    last = len(ordered)
    for wanted in sorted({1 + (last - 1) * step // (COUNTS - 1) for step in range(COUNTS)}):
        inside = int(np.searchsorted(counts, wanted, side="right"))
        if not inside:
            continue
        so_far = qualities[:inside]
        found[wanted] = {
            "r2": r2(so_far, weights),
            "igd": igd(so_far, front),
            "igd_plus": igd_plus(so_far, front),
            "pc_entropy": pc_entropy(so_far, front),
            "preference_coverage": coverage(so_far, front, weights),
            **{f"reward_percentile_{one}": reward_percentile(so_far, weights, one) for one in PERCENTILES},
        }
        if inside >= TOP:
            found[wanted][f"top_{TOP}_reward"] = top_k_reward(so_far, weights, TOP)
            found[wanted][f"top_{TOP}_diversity"] = top_k_diversity(so_far, weights, candidates[:inside], TOP)
    return found


def choices_by_preference(trials: Sequence[TrialRow], goals: Sequence[Goal]) -> list[tuple[Floats, TrialRow]]:
    """For each of about 50 preferences, the feasible trial that serves it best: the largest augmented
    Tchebycheff value of goals scaled as above.
    """
    inside = [trial for trial in trials if feasible(trial.values, goals)]
    if not inside:
        return []
    points = [trial.values for trial in inside]
    corner = np.asarray(reference_point(points, goals))
    qualities = Scale(losses(points, goals).min(axis=0), corner).qualities(points, goals)
    weights = preferences(qualities.shape[1])
    best = scalarise(qualities[None], weights[:, None]).argmax(axis=1).tolist()
    return [(weight, inside[index]) for weight, index in zip(weights, best, strict=True)]
