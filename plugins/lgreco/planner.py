"""Which setting each layer gets: the cheapest ones whose errors add up to no more than a budget.

A knapsack with one choice a layer (L-GreCo, arXiv 2210.17357, section 3), solved by dynamic programming
over an error axis cut into buckets. Pure NumPy: errors and costs come from elsewhere, in any unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """A decision for all layers.

    `choices` (L,) are indices into each layer's settings. `error` and `cost` are their sums over layers,
    `uniform_error` and `uniform_cost` those of the reference settings. `reason` tells whose the choices
    are: the dynamic programme's, or the reference's.
    """

    choices: Indices
    budget: float
    error: float
    cost: float
    uniform_error: float
    uniform_cost: float
    reason: Literal["dp", "uniform"]


def plan(
    errors: Sequence[ArrayLike],
    costs: Sequence[ArrayLike],
    reference: ArrayLike,
    *,
    alpha: float = 1.0,
    budget: float | None = None,
    buckets: int = 10_000,
) -> Plan:
    """Choose a setting for each layer: least total cost within the budget of total error.

    Errors are rounded up to whole buckets, so the choices keep to the budget in real numbers, and cost
    no more than the best that keeps to (1 - L / buckets) of it. The reference settings are kept when
    that leaves nothing feasible, and when they are within the budget themselves and no dearer. Of
    choices that cost the same, those with the least (rounded) error win.

    Args:
        errors: (L, K_l) errors, in one unit; one that is not finite, or negative, forbids its setting.
        costs: (L, K_l) costs, likewise.
        reference: (L,) indices of the settings that a uniform compressor would use.
        alpha: budget as a multiple of the reference's total error.
        budget: total error allowed, in place of `alpha` times the reference's.
        buckets: that the budget is cut into; time and memory are proportional to it.

    Raises:
        ValueError: the tables don't fit each other, or a reference is not among the settings.
    """
    rows = [
        (np.asarray(e, dtype=np.float64), np.asarray(c, dtype=np.float64)) for e, c in _pairs(errors, costs)
    ]
    uniform = np.asarray(reference, dtype=np.int64)
    if uniform.shape != (len(rows),):
        raise ValueError(f"{len(rows)} layers need as many references: got shape {uniform.shape}")
    for layer, (error, cost) in enumerate(rows):
        if error.ndim != 1 or error.shape != cost.shape:
            raise ValueError(f"layer {layer} has errors of shape {error.shape} and costs of {cost.shape}")
        if not 0 <= uniform[layer] < len(error) <= np.iinfo(np.int16).max:
            raise ValueError(
                f"layer {layer} has {len(error)} settings, and its reference is {uniform[layer]}"
            )
    uniform_error, uniform_cost = _total(rows, uniform)
    limit = alpha * uniform_error if budget is None else budget
    choices = _solve(rows, limit, buckets)
    reason: Literal["dp", "uniform"] = "dp"
    if choices is None or (uniform_error <= limit and _total(rows, choices)[1] >= uniform_cost):
        choices, reason = uniform, "uniform"
    return Plan(choices, limit, *_total(rows, choices), uniform_error, uniform_cost, reason)


def capped(errors: ArrayLike, norm: float, reference: int, limit: float) -> Floats:
    """Forbid, in one layer's errors (K,), what exceeds `limit` times its gradient's norm.

    It spares layers of small gradients from paying for the others. What is no worse than the reference
    stays allowed.
    """
    found = np.array(errors, dtype=np.float64)
    found[~(found <= max(limit * norm, found[reference]))] = np.inf
    return found


def _pairs(errors: Sequence[ArrayLike], costs: Sequence[ArrayLike]) -> list[tuple[ArrayLike, ArrayLike]]:
    if len(errors) != len(costs):
        raise ValueError(f"errors are of {len(errors)} layers, and costs of {len(costs)}")
    return list(zip(errors, costs, strict=True))


def _total(rows: Sequence[tuple[Floats, Floats]], choices: Indices) -> tuple[float, float]:
    error = math.fsum(float(row[0][choice]) for row, choice in zip(rows, choices, strict=True))
    cost = math.fsum(float(row[1][choice]) for row, choice in zip(rows, choices, strict=True))
    return error, cost


def _solve(rows: Sequence[tuple[Floats, Floats]], budget: float, buckets: int) -> Indices | None:
    """The cheapest choices (L,) whose rounded errors fit into the buckets; None where there are none."""
    if not 0 <= budget < math.inf:
        return None
    best = np.full(buckets + 1, np.inf)  # least cost of the layers so far that uses exactly x buckets
    best[0] = 0.0
    trace: list[tuple[NDArray[np.int16], Indices]] = []
    scratch = np.empty(buckets + 1)
    for errors, costs in rows:
        sizes = _rounded(errors, costs, budget, buckets)
        row = np.full(buckets + 1, np.inf)
        back = np.full(buckets + 1, -1, dtype=np.int16)
        for k in _efficient(sizes, costs):
            size = int(sizes[k])
            there = scratch[size:]
            np.add(best[: buckets + 1 - size], costs[k], out=there)
            better = there < row[size:]
            np.copyto(row[size:], there, where=better)
            np.copyto(back[size:], k, where=better)
        best = row
        trace.append((back, sizes))
    used = int(best.argmin())  # the first, that is of the least error
    if best[used] == np.inf:
        return None
    choices = np.empty(len(rows), dtype=np.int64)
    for layer in reversed(range(len(rows))):
        back, sizes = trace[layer]
        choices[layer] = back[used]
        used -= int(sizes[choices[layer]])
    return choices


def _rounded(errors: Floats, costs: Floats, budget: float, buckets: int) -> Indices:
    """Errors in buckets, rounded up (K,); -1 for a setting that is forbidden or too bad by itself.

    An error of zero takes no bucket, where the paper's code counts one: exact settings are free.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        sizes = np.where(errors == 0, 0.0, np.ceil(errors / (budget / buckets)))
    allowed = np.isfinite(costs) & (costs >= 0) & (errors >= 0) & (sizes <= buckets)
    return np.where(allowed, sizes, -1).astype(np.int64)


def _efficient(sizes: Indices, costs: Floats) -> list[int]:
    """Settings that no other one of the layer beats in both error and cost, by error."""
    kept: list[int] = []
    for k in np.lexsort((costs, sizes)).tolist():
        if sizes[k] >= 0 and (not kept or costs[k] < costs[kept[-1]]):
            kept.append(k)
    return kept
