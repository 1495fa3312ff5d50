"""How long the network takes to answer, on the device that the trial ran on."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import Field

from ...core import MeasuredObjective, PluginOptions, Shape
from ._running import evaluating, example

if TYPE_CHECKING:
    import torch
    from torch import nn


class LatencyOptions(PluginOptions):
    """Options of `latency`."""

    batch_size: int = Field(1, ge=1, description="Samples in the batch that is timed.")
    warmup: int = Field(10, ge=0, description="Forward passes before the timed ones.")
    repeats: int = Field(50, ge=1, description="Forward passes timed; the median counts.")
    threads: int | None = Field(
        1, ge=1, description="Threads of torch's CPU kernels; null leaves torch's setting."
    )


class Latency(MeasuredObjective[LatencyOptions]):
    """Median time of one forward pass over one batch, in milliseconds, in eval mode.

    On a GPU the time between two CUDA events around the pass, launching of kernels included. The
    batch is on the device before the clock starts. Trials that share a machine slow each other
    down: give a trial cores of its own (`resources`) where the number matters.
    """

    name = "latency"
    summary = "median time of a forward pass on the trial's device"
    direction = "minimize"
    unit = "ms"

    def measure(self, model: nn.Module, shape: Shape, device: torch.device) -> float:
        from ...core.training.threads import threads

        options = self.options
        timed = _timed_on_gpu if device.type == "cuda" else _timed
        batch = example(shape, options.batch_size, device)
        with evaluating(model), threads(options.threads):
            for _ in range(options.warmup):
                model(batch)
            return statistics.median(timed(lambda: model(batch), device) for _ in range(options.repeats))


def _timed(run: Callable[[], object], device: torch.device) -> float:  # noqa: ARG001 - one signature
    begun = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - begun)


def _timed_on_gpu(run: Callable[[], object], device: torch.device) -> float:
    import torch

    with torch.cuda.device(device):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end)
