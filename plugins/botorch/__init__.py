"""Bayesian optimisation of several objectives with BoTorch: the optional extra `botorch`.

BoTorch is imported when the first model is fitted, so that the samplers can be listed without it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...core import Sampler, hookimpl
from .bayesian import QNehvi, QParEgo


@hookimpl
def samplers() -> Sequence[type[Sampler]]:
    """Give the samplers of this folder."""
    return (QNehvi, QParEgo)
