"""Changes a candidate a little: for evolution, and for looking around a good one."""

from __future__ import annotations

import math

import numpy as np

from .candidate import Candidate, Value
from .draw import draw
from .space import Categorical, Choice, Integer, Real, SearchSpace


def mutate(
    space: SearchSpace,
    parent: Candidate,
    rng: np.random.Generator,
    *,
    rate: float | None = None,
    step: float | None = None,
) -> Candidate:
    """Walk the space along the parent's choices, with some of them changed.

    Choices that become active are drawn at random.

    Args:
        space: where the parent comes from.
        parent: a candidate of the space.
        rng: the only source of randomness.
        rate: probability of changing each choice, at least one; None changes one.
        step: change numbers by a normal step of this part of their range (of its logarithm, where the
            choice says log); None draws them afresh.
    """
    changed = _chosen(space, parent, rate, rng)

    def pick(choice: Choice) -> Value:
        old = parent.get(choice.name)
        if choice.name not in parent or old not in choice:
            return draw(choice, rng)  # newly active, or its range moved with an earlier choice
        return _other(choice, old, step, rng) if choice.name in changed else old

    return space.generate(pick)


def _chosen(space: SearchSpace, parent: Candidate, rate: float | None, rng: np.random.Generator) -> set[str]:
    """Name the parent's choices to change: only such as have another value."""
    names: list[str] = []

    def pick(choice: Choice) -> Value:
        if choice.values is None or len(choice.values) > 1:
            names.append(choice.name)
        return parent[choice.name]

    space.generate(pick)
    if not names:
        return set()
    chosen = {names[int(rng.integers(len(names)))]}
    if rate is not None:
        drawn = rng.random(len(names)) < rate
        if drawn.any():
            chosen = {name for name, hit in zip(names, drawn, strict=True) if hit}
    return chosen


def _other(choice: Choice, old: Value, step: float | None, rng: np.random.Generator) -> Value:
    """Draw a value of `choice` that isn't `old`."""
    if isinstance(choice, Categorical):
        others = [option for option in choice.options if type(option) is not type(old) or option != old]
        return others[int(rng.integers(len(others)))]
    while True:
        new = draw(choice, rng) if step is None else _near(choice, old, step, rng)
        if new != old:
            return new


def _near(choice: Integer | Real, old: Value, step: float, rng: np.random.Generator) -> Value:
    """Take a normal step from `old`, reflected at nothing: what leaves the range is drawn again."""
    assert isinstance(old, int | float)
    low, high = float(choice.low), float(choice.high)
    if choice.log:
        low, high = math.log(low), math.log(high)
        here = math.log(old)
    else:
        here = float(old)
    while True:
        there = here + rng.normal(0.0, step * (high - low))
        value = math.exp(there) if choice.log else there
        if isinstance(choice, Integer):
            # A step that is too short for the grid still moves by one.
            moved = round((value - old) / choice.step) or (1 if there > here else -1)
            new = old + moved * choice.step
        else:
            new = value
        if new in choice:
            return new
