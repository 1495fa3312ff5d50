"""The samplers that every job can use: random, grid and evolutionary search, and Optuna's."""

from __future__ import annotations

from collections.abc import Sequence

from ...core import Sampler, hookimpl
from .evolution import Evolution
from .grid import Grid
from .optuna_samplers import CmaEs, GaussianProcess, Nsga2, Nsga3, QuasiMonteCarlo, Tpe
from .random_search import RandomSearch


@hookimpl
def samplers() -> Sequence[type[Sampler]]:
    """Give the samplers of this folder."""
    return (
        CmaEs,
        Evolution,
        GaussianProcess,
        Grid,
        Nsga2,
        Nsga3,
        QuasiMonteCarlo,
        RandomSearch,
        Tpe,
    )
