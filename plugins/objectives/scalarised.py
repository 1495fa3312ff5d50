"""A preference over the job's other objectives as one number to maximise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pydantic import Field, model_validator

from ...core import CombinedObjective, Goal, PluginOptions, SpecError
from ...core.scalarisation import Method, quality, scalarise


class ScalarisedOptions(PluginOptions):
    """Options of `scalarised`."""

    weights: dict[str, float] = Field(
        min_length=1, description="How much each objective counts, by label; scaled to sum 1."
    )
    bounds: dict[str, tuple[float, float]] = Field(
        description="By label: the value that is worth 0 and the one that is worth 1, in the "
        "objective's unit, worst first: `accuracy: [0.5, 0.95]`, `latency: [20, 2]`."
    )
    method: Method = Field(
        "augmented-tchebycheff", description="How the scaled objectives become one number."
    )

    @model_validator(mode="after")
    def _complete(self) -> ScalarisedOptions:
        for name, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"the weight of {name!r} is {weight:g}: give a finite number, 0 or more")
        if not any(self.weights.values()):
            raise ValueError("every weight is 0: give one that is larger")
        if set(self.bounds) != set(self.weights):
            odd = ", ".join(sorted(set(self.bounds) ^ set(self.weights)))
            raise ValueError(f"`weights` and `bounds` must name the same objectives; only one names {odd}")
        for name, (worst, best) in self.bounds.items():
            if not (math.isfinite(worst) and math.isfinite(best)) or worst == best:
                raise ValueError(
                    f"the bounds of {name!r} are {worst:g} and {best:g}: give two finite numbers"
                )
        return self


class Scalarised(CombinedObjective[ScalarisedOptions]):
    """One number for a stated preference, so that what optimises a single objective can serve it.

    Each part is scaled by its declared bounds to a quality, 0 to 1; a value beyond them is beyond 0 or
    1 too. The parts stay visible as objectives of the job with `direction: none`, and are recorded
    for every trial. Bounds are declared and never taken from what was seen, or a trial's value would
    change with its neighbours; so choose them from what is possible, not from what is hoped for.

    Methods, for weights w and qualities q (see `core.scalarisation`): `weighted-sum`, `sum w q`;
    `weighted-log-sum`, `prod q^w`; `tchebycheff`, `1 - max w (1 - q)`; `augmented-tchebycheff`, which
    adds 0.05 `sum w q`; `boundary-intersection` (PBI). A weighted sum can't reach the concave parts of
    a front; the others can.
    """

    name = "scalarised"
    summary = "a preference over other objectives as one number"
    direction = "maximize"

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.options.weights)

    def combine(self, values: Mapping[str, float]) -> float:
        weights, total = self.options.weights, sum(self.options.weights.values())
        qualities = [quality(values[name], *self.options.bounds[name]) for name in weights]
        shares = [weight / total for weight in weights.values()]
        return float(scalarise(qualities, shares, self.options.method))

    def check(self, goals: Sequence[Goal]) -> None:
        for goal in goals:
            if goal.name not in self.options.bounds or goal.direction is None:
                continue
            worst, best = self.options.bounds[goal.name]
            if (best > worst) != (goal.direction == "maximize"):
                raise SpecError(
                    f"objective {goal.name!r} is to {goal.direction}, and its bounds [{worst:g}, {best:g}] "
                    "say the opposite: the worst value stands first"
                )
