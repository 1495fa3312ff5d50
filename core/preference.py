"""Preferences: how much each optimised goal counts, as weights that sum to 1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from .errors import SpecError, near_misses
from .objective import Goal


def parse_preference(text: str) -> dict[str, float]:
    """Read `accuracy=0.8,latency=0.2`.

    Raises:
        SpecError: a part isn't `name=number`, or a name stands there twice.
    """
    weights: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, number = (piece.strip() for piece in part.rpartition("="))
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not (name and equals) or math.isnan(weight):
            raise SpecError(f"preference {part!r}: write it as name=weight, like accuracy=0.8,latency=0.2")
        if name in weights:
            raise SpecError(f"preference {text!r} weighs {name!r} twice")
        weights[name] = weight
    return weights


def normalised(preference: Mapping[str, float], goals: Sequence[Goal]) -> dict[str, float]:
    """Give the weight of every optimised goal: scaled to sum 1, and 0 for one that isn't named.

    Raises:
        SpecError: a name that is no optimised goal; a weight that is negative or not finite; no weight
            above 0.
    """
    names = [goal.name for goal in goals if goal.direction is not None]
    for name, weight in preference.items():
        if name not in names:
            raise SpecError(f"no optimised objective is called {name!r}. {near_misses(name, names)}")
        if not (math.isfinite(weight) and weight >= 0):
            raise SpecError(f"the weight of {name!r} is {weight:g}: a weight is a finite number, 0 or more")
    total = sum(preference.values())
    if total <= 0:
        raise SpecError(f"give at least one of {', '.join(names)} a weight above 0")
    return {name: preference.get(name, 0.0) / total for name in names}
