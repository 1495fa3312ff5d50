"""What `mogfn-al` believes of candidates: rewards with their uncertainty, and the chance to be feasible.

Values of a goal become rewards between the worst (0) and the best seen (1), and are modelled as
z = -log(1 + MARGIN - reward): near the best, where candidates compete, small differences count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...core import Candidate, Goal, SearchProblem
from . import rewards
from .describe import Describer
from .ensemble import Ensemble, Surrogate
from .environment import Floats
from .evidential import Evidential
from .keeping import Tensors, below, under
from .rounds import RoundOptions, Told

if TYPE_CHECKING:
    from .gaussian import GaussianProcesses

Values = NDArray[np.float64]
SurrogateName = Literal["ensemble", "evidential", "gp"]

MARGIN = 0.1
LEAST_CHANCE = 1e-3
FAILURES = ("failed",)
"""Outcomes that speak against a candidate; a lost or cancelled trial doesn't."""


class Belief(NamedTuple):
    """Of n candidates and d optimised goals, on the modelled scale z."""

    mean: Values
    """(n, d)."""
    deviation: Values
    """(n, d); 0 where a goal is exact."""
    chance: Values
    """To be feasible: (n,)."""


class Model:
    """Surrogates of all that a trial decides, and of exact objectives too dear for every step.

    `exact_values` gives the exact goals' values of a candidate; `pretraining` holds candidates whose
    exact values teach the model of them.
    """

    def __init__(
        self,
        problem: SearchProblem,
        options: RoundOptions,
        surrogate: SurrogateName,
        describer: Describer,
        told: Sequence[Told],
        pretraining: Sequence[Candidate],
        exact_values: Callable[[Candidate], Mapping[str, float]],
        rng: np.random.Generator,
        kept: Tensors | None = None,
    ) -> None:
        self.problem = problem
        self._describe = describer.describe
        self.scored = [one for one in told if one.observation.scored]
        self._exact_values = exact_values
        self._goals = [
            goal
            for goal in problem.goals
            if goal.direction is not None or goal.minimum is not None or goal.maximum is not None
        ]
        points = [one.observation.values for one in self.scored]
        self.scales = {goal.name: _scale(goal, points, options) for goal in self._goals}
        candidates = [one.candidate for one in self.scored]
        fit = _fitter(surrogate)
        measured = [goal.name for goal in self._goals if goal.name not in problem.exact]
        exact = [goal.name for goal in self._goals if goal.name in problem.exact]
        self._parts: dict[str, tuple[list[str], Surrogate]] = {}
        self.errors: dict[str, float] = {}
        if measured:
            trained = kept and below("measured", kept)
            found = fit(self._describe(candidates), self._targets(points, measured), rng, kept=trained)
            self._parts["measured"] = measured, found
            self.errors = {name: float(error) for name, error in zip(measured, found.error, strict=True)}
        if exact:
            known = [*candidates, *pretraining]
            values = [exact_values(one) for one in known]
            trained = kept and below("exact", kept)
            found = fit(self._describe(known), self._targets(values, exact), rng, kept=trained)
            self._parts["exact"] = exact, found
        self._success = self._learn_failures(told, rng, kept and below("success", kept))
        kept_bounds = [one.observation.violation == 0 for one in self.scored]
        self.feasible = [one for one, keeps in zip(candidates, kept_bounds, strict=True) if keeps]
        """Candidates of feasible finished trials: n."""
        self.front = self._rewards_of(points)[kept_bounds]
        """Their rewards: (n, d)."""

    @property
    def tensors(self) -> Tensors:
        """What was trained: given as `kept` with the same trials, nothing is trained again."""
        found = {name: surrogate for name, (_, surrogate) in self._parts.items()}
        if self._success is not None:
            found["success"] = self._success
        return {
            key: tensor for name, part in found.items() for key, tensor in under(name, part.tensors).items()
        }

    def believe(self, candidates: Sequence[Candidate], *, exactly: bool = False) -> Belief:
        """What the model says; `exactly` computes exact goals instead of modelling them."""
        features = self._describe(candidates)
        means: dict[str, Values] = {}
        deviations: dict[str, Values] = {}
        for names, surrogate in self._parts.values():
            mean, deviation = surrogate.predict(features)
            means |= dict(zip(names, mean.T, strict=True))
            deviations |= dict(zip(names, deviation.T, strict=True))
        if exactly and self.problem.exact:
            values = [self._exact_values(one) for one in candidates]
            for name in means.keys() & self.problem.exact.keys():
                means[name] = self._targets(values, [name])[:, 0]
                deviations[name] = np.zeros(len(candidates))
        names = [goal.name for goal in self.problem.optimised]
        return Belief(
            np.column_stack([means[name] for name in names]),
            np.column_stack([deviations[name] for name in names]),
            self._chance(means, deviations, features),
        )

    def path(self, rng: np.random.Generator) -> Callable[[Sequence[Candidate]], Values]:
        """Draw a function that may be the true one: of n candidates, z of the optimised goals (n, d)."""
        paths = [(names, surrogate.path(rng)) for names, surrogate in self._parts.values()]

        def follow(candidates: Sequence[Candidate]) -> Values:
            features = self._describe(candidates)
            found: dict[str, Values] = {}
            for names, path in paths:
                found |= dict(zip(names, path(features).T, strict=True))
            return np.column_stack([found[goal.name] for goal in self.problem.optimised])

        return follow

    def values(self, z: Values) -> list[dict[str, float]]:
        """Values of the optimised goals, in their units, of z (n, d)."""
        goals = self.problem.optimised
        columns = [
            self.scales[goal.name].value(unwarped(column)) for goal, column in zip(goals, z.T, strict=True)
        ]
        return [
            {goal.name: float(column[row]) for goal, column in zip(goals, columns, strict=True)}
            for row in range(len(z))
        ]

    def _rewards_of(self, points: Sequence[Mapping[str, float]]) -> Values:
        return rewards.table([self.scales[goal.name] for goal in self.problem.optimised], points)

    def _targets(self, points: Sequence[Mapping[str, float]], names: Sequence[str]) -> Values:
        return warped(rewards.table([self.scales[name] for name in names], points))

    def _chance(
        self, means: Mapping[str, Values], deviations: Mapping[str, Values], features: Floats
    ) -> Values:
        chance = np.ones(len(features))
        for goal in self._goals:
            for bound, above in ((goal.minimum, True), (goal.maximum, False)):
                if bound is None:
                    continue
                edge = warped(self.scales[goal.name].reward(np.array([bound])))[0]
                better = above == (goal.direction != "minimize")  # a larger z is inside
                gap = (means[goal.name] - edge) * (1 if better else -1)
                chance *= _normal_cdf(gap, deviations[goal.name])
        if self._success is not None:
            mean, deviation = self._success.predict(features)  # of 0 (fails) or 1
            chance *= _normal_cdf(mean[:, 0] - 0.5, deviation[:, 0])
        return np.maximum(chance, LEAST_CHANCE)

    def _learn_failures(
        self, told: Sequence[Told], rng: np.random.Generator, kept: Tensors | None
    ) -> Surrogate | None:
        rows = [one for one in told if one.observation.scored or one.observation.outcome in FAILURES]
        success = np.array([[float(one.observation.scored)] for one in rows])
        if success.all():
            return None
        return Ensemble(self._describe([one.candidate for one in rows]), success, rng, kept=kept)


def warped(values: Values) -> Values:
    """Z of rewards."""
    return -np.log(np.maximum(1 + MARGIN - values, MARGIN / 10))


def unwarped(z: Values) -> Values:
    """Rewards of z."""
    return 1 + MARGIN - np.exp(-z)


def _scale(goal: Goal, points: Sequence[Mapping[str, float]], options: RoundOptions) -> rewards.Scale:
    seen = [point[goal.name] for point in points]
    found = rewards.scale(goal, seen, options.bounds.get(goal.name), goal.name in options.log)
    if goal.reference is None or goal.direction is None or goal.name in options.bounds:
        return found
    worst = float(found.place(np.array([goal.reference]))[0])
    inside = worst > found.best if goal.direction == "minimize" else worst < found.best
    return rewards.Scale(goal, worst, found.best, found.log) if inside else found


def _fitter(name: SurrogateName) -> type[Ensemble | Evidential | GaussianProcesses]:
    if name == "ensemble":
        return Ensemble
    if name == "evidential":
        return Evidential
    from .gaussian import GaussianProcesses

    return GaussianProcesses


def _normal_cdf(gap: Values, deviation: Values) -> Values:
    from scipy.special import ndtr

    return ndtr(gap / np.maximum(deviation, 1e-9))
