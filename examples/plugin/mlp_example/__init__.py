"""Fully connected networks, scored without training: one plugin of each kind that a method needs."""

from __future__ import annotations

from orchestrate.core import Objective, Program, Sampler, SearchSpace, hookimpl

from .objective import WeightBytes
from .program import Naswot
from .sampler import HillClimbing
from .space import Mlp


@hookimpl
def search_spaces() -> list[type[SearchSpace]]:
    """Register the search space."""
    return [Mlp]


@hookimpl
def programs() -> list[type[Program]]:
    """Register the program."""
    return [Naswot]


@hookimpl
def objectives() -> list[type[Objective]]:
    """Register the objective."""
    return [WeightBytes]


@hookimpl
def samplers() -> list[type[Sampler]]:
    """Register the sampler."""
    return [HillClimbing]
