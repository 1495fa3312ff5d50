"""Answers choices at random: the prior that samplers start from, and a way to look into a space."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from operator import attrgetter

import numpy as np

from .candidate import Candidate, Value
from .errors import SpaceExhausted
from .seeds import generator
from .space import Categorical, Choice, Integer, Real, SearchSpace, enumerate_candidates

PROBES = 100
"""Random walks that look for the kinds of choice in a space."""
ATTEMPTS = 1000
"""Random candidates looked at for one that is new."""


def draw(choice: Choice, rng: np.random.Generator) -> Value:
    """Draw uniformly: over options, over the grid of integers, over reals, or over logarithms."""
    match choice:
        case Categorical(options=options):
            return options[int(rng.integers(len(options)))]
        case Integer(low=low, high=high, log=True):
            # Half a unit beyond each end, so that the ends get their full share after rounding.
            drawn = math.exp(rng.uniform(math.log(low - 0.5), math.log(high + 0.5)))
            return min(max(round(drawn), low), high)
        case Integer(low=low, high=high, step=step):
            return low + step * int(rng.integers((high - low) // step + 1))
        case Real(low=low, high=high, log=True):
            return min(max(math.exp(rng.uniform(math.log(low), math.log(high))), low), high)
        case Real(low=low, high=high):
            return min(max(float(rng.uniform(low, high)), low), high)


def draw_candidate(space: SearchSpace, rng: np.random.Generator) -> Candidate:
    """Draw a candidate by answering each choice at random.

    Raises:
        SpaceError: the space's program breaks its own rules.
    """
    return space.generate(lambda choice: draw(choice, rng))


def draw_new(
    space: SearchSpace,
    seen: Collection[str],
    rng: np.random.Generator,
    name: Callable[[Candidate], str] = attrgetter("digest"),
) -> Candidate:
    """Draw a candidate whose name isn't in `seen`; after many draws in vain, one of all that are left.

    Raises:
        SpaceExhausted: nothing is left, or nothing that so many draws found.
    """
    for _ in range(ATTEMPTS):
        candidate = draw_candidate(space, rng)
        if name(candidate) not in seen:
            return candidate
    left: list[Candidate] = []
    if space.size() is not None:
        everything = islice(enumerate_candidates(space), space.counting_limit)
        left = [one for one in everything if name(one) not in seen]
    if not left:
        raise SpaceExhausted(
            f"{ATTEMPTS} draws from space {space.name!r} gave nothing new: all {len(seen)} candidates "
            "within reach have been proposed"
        )
    return left[int(rng.integers(len(left)))]


def probe(space: SearchSpace) -> Iterator[Choice]:
    """Yield the choices met on the space's first walk and on some random ones.

    A branch that hardly any walk takes can stay unseen: what is found is certain, what isn't found
    is only likely to be absent.
    """
    seen: list[Choice] = []
    rng = generator(0)

    def first(choice: Choice) -> Value:
        seen.append(choice)
        return choice.options[0] if isinstance(choice, Categorical) else choice.low

    def any_of(choice: Choice) -> Value:
        seen.append(choice)
        return draw(choice, rng)

    for pick in (first, *[any_of] * PROBES):
        space.generate(pick)
        yield from seen
        seen.clear()
