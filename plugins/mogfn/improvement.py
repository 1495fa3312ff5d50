"""Hypervolume improvement under uncertainty, for any number of objectives, without boxes.

The hypervolume of points y >= 0 over the origin is c_d E_λ[max_y min_i (y_i / λ_i)^d] with λ uniform
on the positive part of the sphere (Zhang & Golovin, arXiv 2006.04655, lemma 5). With fixed directions a
batch is chosen greedily at the cost of an array operation a candidate, and samples of the model carry
its uncertainty: noisy expected hypervolume improvement (arXiv 2105.08195) in another form.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def directions(objectives: int, count: int, rng: np.random.Generator) -> Values:
    """Directions on the positive part of the sphere: (count, d); evenly spaced for two objectives."""
    if objectives == 1:
        return np.ones((1, 1))
    if objectives == 2:
        angles = (np.arange(count) + 0.5) * math.pi / (2 * count)
        return np.column_stack([np.cos(angles), np.sin(angles)])
    drawn = np.abs(rng.standard_normal((count, objectives)))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def lengths(points: Values, rays: Values) -> Values:
    """How much each point (…, d) covers along each ray (k, d): c_d min_i (y_i / λ_i)^d, (…, k)."""
    d = rays.shape[1]
    constant = math.pi ** (d / 2) / (2**d * math.gamma(d / 2 + 1))
    least = np.full((*points.shape[:-1], len(rays)), np.inf)
    for index in range(d):
        np.minimum(least, np.maximum(points[..., index, None], 0) / rays[:, index], out=least)
    return constant * least**d


def hypervolume(points: Values, rays: Values) -> float:
    """Hypervolume of points (n, d) over the origin, as the rays see it."""
    return float(lengths(points, rays).max(axis=0).mean()) if len(points) else 0.0


class Improvement:
    """Expected improvement of a front by candidates, given samples of their values.

    `front` (S, n, d) holds what is known (or pending), a sample of it for each of the candidates'
    samples (or S = 1).
    """

    def __init__(self, front: Values, rays: Values) -> None:
        self._rays = rays
        self._best = lengths(front, rays).max(axis=1) if front.shape[1] else np.zeros((1, len(rays)))

    def expected(self, samples: Values, chance: Values) -> Values:
        """Expected improvement of each candidate: samples (S, n, d), chance of being feasible (n,)."""
        gain = lengths(samples, self._rays) - self._best[:, None, :]
        return np.maximum(gain, 0).mean(axis=(0, 2)) * chance

    def accept(self, sample: Values) -> None:
        """Count a candidate's samples (S, d) to the front."""
        self._best = np.maximum(self._best, lengths(sample, self._rays))


def choose(
    improvement: Improvement,
    samples: Values,
    chance: Values,
    count: int,
    apart: Callable[[int, int], bool],
) -> list[tuple[int, float]]:
    """Choose candidates greedily, each with its improvement beyond those before it.

    `apart` tells whether two candidates differ enough to be in one batch; where none does, it is waived.
    """
    chosen: list[tuple[int, float]] = []
    while len(chosen) < min(count, len(chance)):
        gains = improvement.expected(samples, chance)
        gains[[index for index, _ in chosen]] = -np.inf
        order = np.argsort(-gains, kind="stable")
        best = next(
            (int(index) for index in order if all(apart(int(index), other) for other, _ in chosen)),
            int(order[0]),
        )
        if not np.isfinite(gains[best]):
            best = int(order[0])
        improvement.accept(samples[:, best])
        chosen.append((best, float(gains[best])))
    return chosen
