"""Multi-objective GFlowNets (arXiv 2210.12765): diverse candidates for every trade-off."""

from __future__ import annotations

from collections.abc import Sequence

from ...core import Sampler, hookimpl
from .pc import MogfnPc


@hookimpl
def samplers() -> Sequence[type[Sampler]]:
    """Give the samplers of this folder."""
    return (MogfnPc,)
