"""Proposals from a trained GFlowNet: new candidates, each for a preference."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...core import Candidate, SearchProblem
from .conditions import Conditions, Cover, covering

if TYPE_CHECKING:
    from .gflownet import GFlowNet

TRIES = 8
"""Samples drawn for each candidate wanted, since some are known already."""
SPREAD = 64
"""Preferences to choose from, evenly spread."""


def preferences(
    problem: SearchProblem,
    around: Mapping[str, float] | None,
    spread: float,
    count: int,
    rng: np.random.Generator,
    cover: Cover = "lattice",
) -> NDArray[np.float64]:
    """Draw `count` evenly spread preferences, drawn together `around` one where it is given: (n, d)."""
    known = covering(len(problem.optimised), max(SPREAD, count), cover)
    weights = known[np.concatenate([rng.permutation(len(known)) for _ in range(1 + count // len(known))])]
    weights = weights[:count]
    if around is None:
        return weights
    centre = np.array([around.get(goal.name, 0.0) for goal in problem.optimised])
    return (1 - spread) * centre / centre.sum() + spread * weights


def distinct(
    net: GFlowNet,
    weights: NDArray[np.float64],
    known: Collection[str],
    rng: np.random.Generator,
    name: Callable[[Candidate], str] = attrgetter("digest"),
) -> list[Candidate]:
    """Sample a candidate for each preference (n, d), none of them known (by name) nor twice.

    Fewer come back where the policy has no more to give.
    """
    beta = np.full(len(weights) * TRIES, net.options.beta.high)
    drawn = net.sample(Conditions(weights.repeat(TRIES, axis=0), beta), rng)
    found: dict[str, Candidate] = {}
    spare: dict[str, Candidate] = {}
    for row in range(len(weights)):
        fresh = {
            called: one
            for one in drawn[row * TRIES : (row + 1) * TRIES]
            if (called := name(one)) not in known and called not in found
        }
        if fresh:
            first = next(iter(fresh))
            found[first] = fresh.pop(first)
        spare |= fresh
    for called, one in spare.items():
        if len(found) >= len(weights):
            break
        found.setdefault(called, one)
    return list(found.values())


def best_first(merit: NDArray[np.float64]) -> list[int]:
    """Indices by merit, the largest first; of equal ones the earliest."""
    order: list[int] = np.argsort(-merit, kind="stable").tolist()
    return order


def repeated(weights: NDArray[np.float64], count: int, beta: float) -> Conditions:
    """One condition, `count` times."""
    return Conditions(np.tile(weights, (count, 1)), np.full(count, beta))
