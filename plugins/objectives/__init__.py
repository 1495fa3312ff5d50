"""The built-in objectives: what a program reports, what a network costs, what a device measures."""

from __future__ import annotations

from typing import Any

from ...core import Objective, hookimpl
from .latency import Latency
from .peak_memory import PeakMemory
from .reported import Accuracy, Loss, Metric
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
    "objectives",
]


@hookimpl
def objectives() -> list[type[Objective[Any]]]:
    """Register the built-in objectives."""
    return [Accuracy, Loss, Metric, Parameters, Flops, Macs, Latency, PeakMemory]
