"""What a pattern of stragglers looks like: how many, how long, how it would be made up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ..codes.base import Floats
from .generators import GilbertElliott
from .models import Pattern

TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Statistics:
    """Of a pattern (rounds, n): its part of straggling worker-rounds, stragglers a round (mean and
    most), how many bursts there are by length in rounds, and the Gilbert-Elliott chain that fits best.
    """

    fraction: float
    mean: float
    most: int
    bursts: dict[int, int]
    chain: GilbertElliott | None


def describe(pattern: Pattern) -> Statistics:
    """Summarise a pattern (rounds, n)."""
    if not pattern.size:
        return Statistics(0.0, 0.0, 0, {}, None)
    per_round = pattern.sum(axis=1)
    return Statistics(
        float(pattern.mean()), float(per_round.mean()), int(per_round.max()), bursts(pattern), fit(pattern)
    )


def bursts(pattern: Pattern) -> dict[int, int]:
    """Number of bursts (longest runs of rounds in which one worker straggles) by length.

    Bursts that the pattern's first or last round cuts off count with what is seen of them.
    """
    edge = np.zeros((1, pattern.shape[1]), dtype=np.int8)
    steps = np.diff(np.concatenate([edge, pattern.astype(np.int8), edge]), axis=0)
    starts, ends = (np.argwhere(sign == steps.T) for sign in (1, -1))
    lengths = ends[:, 1] - starts[:, 1]
    counts: Counter[int] = Counter(int(length) for length in lengths)
    return {length: counts[length] for length in sorted(counts)}


def fit(pattern: Pattern) -> GilbertElliott | None:
    """Fit a Gilbert-Elliott chain by counting transitions, which is its maximum likelihood.

    None if the pattern has no transition from one of the two states, so that nothing is known of it.
    """
    before, after = pattern[:-1], pattern[1:]
    normal, slow = np.count_nonzero(~before), np.count_nonzero(before)
    if not normal or not slow:
        return None
    p_slow = np.count_nonzero(~before & after) / normal
    p_normal = np.count_nonzero(before & ~after) / slow
    return GilbertElliott(float(p_slow), float(p_normal)) if p_slow + p_normal > 0 else None


@dataclass(frozen=True)
class Scores:
    """How each worker does, (n,), from 0 to 1.

    `relative` is the fastest worker's time over its own, `individual` its own best time over its time
    now: a worker slow by itself has a low relative score, one that became slow a low individual one.
    """

    relative: Floats
    individual: Floats


def scores(seconds: Floats, recent: int = 20, quantile: float = 0.5) -> Scores:
    """Score workers by their reply times (rounds, n); NaN where a reply didn't come in.

    By a quantile of the speeds of the last `recent` rounds, where a missing reply has speed 0; a worker's
    best is its fastest tenth of all rounds.
    """
    speeds = np.where(np.isnan(seconds), 0.0, 1 / seconds)
    now = np.quantile(speeds[-recent:], quantile, axis=0)
    best = np.quantile(speeds, 0.9, axis=0, method="inverted_cdf")
    return Scores(now / max(now.max(), TINY), np.minimum(now / np.maximum(best, TINY), 1.0))
