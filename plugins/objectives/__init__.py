"""The built-in objectives: metrics, costs of a network, measurements, and a preference over them."""

from __future__ import annotations

from typing import Any

from ...core import Objective, hookimpl
from .latency import Latency
from .peak_memory import PeakMemory
from .reported import Accuracy, Loss, Metric
from .scalarised import Scalarised
from .static import Flops, Macs, Parameters

__all__ = [
    "Accuracy",
    "Flops",
    "Latency",
    "Loss",
    "Macs",
    "Metric",
    "Parameters",
    "PeakMemory",
    "Scalarised",
    "objectives",
]


@hookimpl
def objectives() -> list[type[Objective[Any]]]:
    """Register the built-in objectives."""
    return [Accuracy, Loss, Metric, Parameters, Flops, Macs, Latency, PeakMemory, Scalarised]
