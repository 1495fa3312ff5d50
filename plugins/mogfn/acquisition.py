"""What the policy of a `mogfn-al` round is trained on: what the model promises of a candidate.

`ucb` and `thompson` give a vector of rewards, which a preference makes one of. Improvements are expected
over samples of the model: `ei` by preference, over the best that the preference has; `ehvi` and `nehvi` in
hypervolume, which knows no preference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...core import Candidate
from ...core.scalarisation import METHODS, Method
from .conditions import even
from .improvement import Improvement
from .scalarise import LEAST

if TYPE_CHECKING:
    from .model import Belief, Model

Values = NDArray[np.float64]
Rewards: TypeAlias = Callable[[Sequence[Candidate]], Values]
Gain: TypeAlias = Callable[[Values, Values], Values]
"""Gain (…) of preferences (…, d) and a candidate's rewards (…, k)."""
AcquisitionName = Literal["ucb", "thompson", "ei", "ehvi", "nehvi"]

FLOOR = 0.25
"""Quantile of finished trials at which the reward that the GFlowNet sees begins."""
ANCHORS = 16
"""Preferences at least whose best known candidates say what a large improvement is."""


class Improving:
    """Log reward of an improvement: 1 is the largest of the known candidates', for the same preference.

    The last of a candidate's rewards is the logarithm of a factor. Only ratios count, and so log Z stays near
    0, however small improvements have become.
    """

    def __init__(self, gain: Gain) -> None:
        self.gain = gain
        self._anchors: Values | None = None

    def anchor(self, known: Values, objectives: int) -> None:
        """Compare with known candidates' rewards (n, k)."""
        best = self.gain(even(objectives, ANCHORS)[:, None], known[:, :-1]).argmax(axis=1)
        self._anchors = known[np.unique(best)]

    def __call__(self, weights: Values, rows: Values) -> Values:
        """Log reward (…) of preferences (…, d) and a candidate's rewards (…, k)."""
        assert self._anchors is not None
        most = self.gain(weights[..., None, :], self._anchors[:, :-1]).max(axis=-1)
        share = self.gain(weights, rows[..., :-1]) / np.maximum(most, 1e-12)
        return np.log(np.maximum(share, LEAST)) + rows[..., -1]


def bounded(model: Model, kappa: float, power: float) -> Rewards:
    """Upper confidence bounds, as rewards (n, d)."""
    seen = _seen(model, power)

    def rewards(candidates: Sequence[Candidate]) -> Values:
        belief = model.believe(candidates)
        return seen(belief.mean + kappa * belief.deviation, belief.chance)

    return rewards


def drawn(model: Model, power: float, rng: np.random.Generator) -> Rewards:
    """A function that the model holds possible, as rewards (n, d)."""
    seen, path = _seen(model, power), model.path(rng)
    return lambda candidates: seen(path(candidates), model.believe(candidates).chance)


def by_preference(model: Model, draws: Values, power: float, method: Method) -> tuple[Rewards, Improving]:
    """Expected improvement over the best that was measured for a preference.

    Jones et al., "Efficient Global Optimization of Expensive Black-Box Functions", Journal of Global
    Optimization 13, 1998, section 4.1; of a scalarised objective as in ParEGO.
    """
    scalarise, front = METHODS[method], model.front

    def rewards(candidates: Sequence[Candidate]) -> Values:
        belief = model.believe(candidates)
        found = sampled(belief, draws).swapaxes(0, 1).reshape(len(candidates), -1)
        return np.column_stack([found, power * np.log(belief.chance)])

    def gain(weights: Values, rows: Values) -> Values:
        d = weights.shape[-1]
        best = scalarise(front, weights[..., None, :]).max(axis=-1) if len(front) else np.zeros(1)
        total = np.zeros(np.broadcast_shapes(weights.shape[:-1], rows.shape[:-1]))
        for start in range(0, rows.shape[-1], d):
            total += np.maximum(scalarise(rows[..., start : start + d], weights) - best, 0)
        return total * d / rows.shape[-1]

    return rewards, Improving(gain)


def in_hypervolume(
    model: Model, draws: Values, power: float, improvement: Improvement
) -> tuple[Rewards, Improving]:
    """Expected improvement of the hypervolume, the same for every preference."""

    def rewards(candidates: Sequence[Candidate]) -> Values:
        belief = model.believe(candidates)
        expected = improvement.expected(sampled(belief, draws), np.ones(len(candidates)))
        return np.column_stack([expected, power * np.log(belief.chance)])

    def gain(weights: Values, rows: Values) -> Values:
        return np.broadcast_to(rows[..., 0], np.broadcast_shapes(weights.shape[:-1], rows.shape[:-1]))

    return rewards, Improving(gain)


def sampled(belief: Belief, draws: Values) -> Values:
    """Rewards held possible (S, n, d), by draws of the standard normal (S, n or 1, d)."""
    from .model import unwarped

    return unwarped(belief.mean + draws * belief.deviation)


def stratified(count: int, objectives: int, rng: np.random.Generator) -> Values:
    """Draws of the standard normal, one from the middle of each of as many equal parts: (count, 1, d)."""
    from scipy.special import ndtri

    parts = rng.permuted(np.tile(np.arange(count), (objectives, 1)), axis=1)
    return ndtri((parts.T[:, None] + 0.5) / count)


def _seen(model: Model, power: float) -> Callable[[Values, Values], Values]:
    """Rewards from the floor up. The chance counts so that P(x) is in proportion to R^β times it."""
    from .model import unwarped

    front = model.front
    floor = np.quantile(front, FLOOR, axis=0) if len(front) else np.zeros(front.shape[1])

    def seen(z: Values, chance: Values) -> Values:
        share = np.clip((unwarped(z) - floor) / np.maximum(1 - floor, 1e-9), 0, 1.5)
        return share * chance[:, None] ** power

    return seen
