"""Multi-objective GFlowNets (arXiv 2210.12765): diverse candidates for every trade-off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...core import Objective, Program, Sampler, SearchSpace, hookimpl
from .al import MogfnAl
from .hypergrid import HyperGrid
from .pc import MogfnPc
from .sequences import Hairpins, NGrams
from .synthetic import Synthetic, SyntheticObjective


@hookimpl
def samplers() -> Sequence[type[Sampler]]:
    """Give the samplers of this folder."""
    return (MogfnAl, MogfnPc)


@hookimpl
def search_spaces() -> Sequence[type[SearchSpace]]:
    """Give the tasks that the method is known by, as spaces."""
    return (HyperGrid, NGrams, Hairpins)


@hookimpl
def objectives() -> Sequence[type[Objective[Any]]]:
    """Give the objective that reads a space's own scores."""
    return (SyntheticObjective,)


@hookimpl
def programs() -> Sequence[type[Program]]:
    """Give the program that reports a space's own scores."""
    return (Synthetic,)
