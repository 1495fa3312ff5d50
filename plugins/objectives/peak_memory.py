"""How much memory the network needs to answer, on the device that the trial ran on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ...core import MeasuredObjective, PluginOptions, Shape
from ._running import evaluating, example

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class PeakMemoryOptions(PluginOptions):
    """Options of `peak-memory`."""

    batch_size: int = Field(1, ge=1, description="Samples in the batch.")


class PeakMemory(MeasuredObjective[PeakMemoryOptions]):
    """Peak bytes of one forward pass in eval mode: weights, buffers, input, live activations.

    On the CPU, tensors are counted as they come and go (see `LiveTensors`), so the same network has
    the same number on every machine. What a kernel allocates inside itself doesn't show there.

    On a GPU, it is the highest mark of PyTorch's CUDA allocator during a second pass, less what it
    held before, plus weights and buffers: kernels' workspaces and the allocator's rounding are in
    it, another program's memory isn't. Numbers from a CPU and from a GPU aren't comparable.
    """

    name = "peak-memory"
    summary = "peak memory of a forward pass on the trial's device"
    direction = "minimize"
    unit = "bytes"

    def measure(self, model: nn.Module, shape: Shape, device: torch.device) -> float:
        with evaluating(model):
            measured = _on_gpu if device.type == "cuda" else _on_cpu
            running = measured(model, shape, self.options.batch_size, device)
        return float(_held(model) + running)


def _held(model: nn.Module) -> int:
    """Bytes of weights and buffers; storage that two of them share counts once."""
    tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def _on_cpu(model: nn.Module, shape: Shape, batch_size: int, device: torch.device) -> int:
    from ._live import LiveTensors

    with LiveTensors(ignoring=[*model.parameters(), *model.buffers()]) as live:
        model(live.counted(example(shape, batch_size, device)))
    return live.peak


def _on_gpu(model: nn.Module, shape: Shape, batch_size: int, device: torch.device) -> int:
    import torch

    # The first pass lets libraries allocate what they keep for good.
    model(example(shape, batch_size, device))
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    model(example(shape, batch_size, device))
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
