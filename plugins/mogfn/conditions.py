"""What a policy is conditioned on: a preference over the objectives, and an inverse temperature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ...core import PluginOptions
from ...core.scalarisation import simplex
from .environment import Floats

Cover: TypeAlias = Literal["lattice", "k-means"]
"""How preferences are spread evenly over the simplex."""
DRAWN = 50
"""Random preferences by which k-means finds each centre."""


@dataclass(frozen=True)
class Conditions:
    """One condition a trajectory: preferences (n, d), of sum 1, and inverse temperatures (n,)."""

    weights: NDArray[np.float64]
    beta: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.beta)

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> Conditions:
        return Conditions(self.weights[rows], self.beta[rows])


class BetaOptions(PluginOptions):
    """The inverse temperature β: P(x | w, β) ∝ R_w(x)^β."""

    distribution: Literal["constant", "uniform", "log-uniform", "gamma", "beta"] = Field(
        default="constant",
        description="`constant`: always `high`. Otherwise drawn for each condition, and the policy is "
        "conditioned on it.",
    )
    low: float = Field(default=1.0, gt=0, description="Lower end of the distributions with two ends.")
    high: float = Field(default=24.0, gt=0, description="Upper end; what proposals are made at.")
    shape: float = Field(
        default=2.0,
        gt=0,
        description="Shape of the gamma distribution, whose mean is high / 2, and of the beta distribution, "
        "which is symmetric from `low` to `high`.",
    )
    warmup: float = Field(
        default=0.3, ge=0, lt=1, description="Share of the training in which β grows from 1 to its value."
    )

    @model_validator(mode="after")
    def _fits(self) -> BetaOptions:
        if self.distribution in ("uniform", "log-uniform", "beta") and self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        return self

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw inverse temperatures: (count,)."""
        match self.distribution:
            case "constant":
                return np.full(count, self.high)
            case "uniform":
                return rng.uniform(self.low, self.high, count)
            case "log-uniform":
                return np.exp(rng.uniform(np.log(self.low), np.log(self.high), count))
            case "gamma":
                return np.minimum(rng.gamma(self.shape, self.high / (2 * self.shape), count), self.high)
            case "beta":
                return self.low + (self.high - self.low) * rng.beta(self.shape, self.shape, count)


@dataclass(frozen=True)
class Encoder:
    """Encodes conditions as features.

    A thermometer of n bins over [low, high] has gap g = (high - low) / n and
    e_j(v) = clip((v - low - j g) / g, 0, 1): every bin is reached.
    """

    objectives: int
    encoding: Literal["raw", "thermometer", "both"] = "both"
    bins: int = 16
    beta: BetaOptions = field(default_factory=BetaOptions)

    @property
    def features(self) -> int:
        """Length of an encoded condition."""
        each = {"raw": 1, "thermometer": self.bins, "both": self.bins + 1}[self.encoding]
        return (self.objectives + 1) * each

    def encode(self, conditions: Conditions) -> Floats:
        """Encode: (n, features)."""
        values = np.column_stack([conditions.weights, conditions.beta / self.beta.high])
        parts: list[NDArray[np.float64]] = []
        if self.encoding != "thermometer":
            parts.append(values)
        if self.encoding != "raw":
            parts.append(thermometer(values, self.bins))
        return np.concatenate(parts, axis=1).astype(np.float32)


def thermometer(values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Encode values (n, k) in [0, 1] as (n, k * bins)."""
    filled = np.clip(values[:, :, None] * bins - np.arange(bins), 0, 1)
    return filled.reshape(len(values), -1)


def even(objectives: int, count: int) -> NDArray[np.float64]:
    """At least `count` evenly spread preferences, or as few more as a lattice allows: (n, d)."""
    if objectives == 1:
        return np.ones((count, 1))
    parts = 1
    while len(found := simplex(objectives, parts)) < count:
        parts += 1
    return found


def clustered(objectives: int, count: int) -> NDArray[np.float64]:
    """`count` preferences that cover the simplex, always the same: (count, d).

    They are the centres of clusters (k-means) of evenly drawn ones.
    """
    if objectives == 1:
        return np.ones((count, 1))
    from scipy.cluster import vq as _vq

    vq: Any = _vq  # its types leave much unknown
    rng = np.random.default_rng(0)
    drawn = rng.dirichlet(np.ones(objectives), DRAWN * count)
    return vq.kmeans2(drawn, count, iter=20, minit="++", rng=rng)[0]


def covering(objectives: int, count: int, cover: Cover) -> NDArray[np.float64]:
    """Evenly spread preferences, about `count` of them: (n, d)."""
    return (even if cover == "lattice" else clustered)(objectives, count)


def dirichlet(alpha: Sequence[float], count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw preferences: (count, d)."""
    return rng.dirichlet(alpha, count)
