"""BatchNorm re-calibration: running statistics computed afresh for the weights as they are."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from .modes import evaluating

BatchNorm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
LAYERS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace BatchNorm's running statistics by the average over `batches`; see `calibrating`.

    Args:
        model: the network.
        batches: inputs (n, C, H, W) from the *training* split, on the network's device, without
            random changes.
    """
    with torch.no_grad(), calibrating(model):
        for batch in batches:
            model(batch)


@contextmanager
def calibrating(model: nn.Module) -> Generator[None]:
    """Let the forward passes inside the block set BatchNorm's running statistics anew.

    Each BatchNorm layer normalises with the batch's own mean and (biased) variance, and at the
    block's end gets their averages over the batches, weighted by batch size, as running statistics
    (1903.05134, section 3.3). Layers that no pass reaches keep theirs. All else in the network stays
    as it is: weights, modes (only BatchNorm trains meanwhile: dropout is off) and momenta. After an
    exception the statistics too are what they were.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, LAYERS)]
    layers = [layer for layer in layers if layer.track_running_stats]
    tallies = {layer: _Tally.of(layer) for layer in layers}
    hooks = [layer.register_forward_hook(tallies[layer].add) for layer in layers]
    try:
        with evaluating(model):
            for layer in layers:
                layer.train()
                layer.momentum = 1.0  # the running statistics are the last batch's
            yield
    except BaseException:
        for layer, tally in tallies.items():
            tally.restore(layer)
        raise
    else:
        for layer, tally in tallies.items():
            tally.write(layer)
    finally:
        for hook in hooks:
            hook.remove()
        for layer, tally in tallies.items():
            layer.momentum = tally.momentum


@dataclass
class _Tally:
    """What one layer had before, and the weighted sums of its batches' statistics."""

    momentum: float | None
    before: list[Tensor]
    mean: Tensor
    variance: Tensor
    samples: int = 0
    batches: int = 0

    @classmethod
    def of(cls, layer: BatchNorm) -> _Tally:
        mean, variance = _statistics(layer)
        before = [buffer.clone() for buffer in layer.buffers(recurse=False)]
        return cls(layer.momentum, before, torch.zeros_like(mean), torch.zeros_like(variance))

    @torch.no_grad()
    def add(self, layer: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        """Forward hook: take over what the batch left in the layer."""
        assert isinstance(layer, LAYERS)
        mean, variance = _statistics(layer)
        size = len(inputs[0])
        values = inputs[0].numel() // inputs[0].shape[1]  # for each channel
        self.mean += mean * size
        self.variance += variance * (size * (values - 1) / values)  # torch's running variance is unbiased
        self.samples += size
        self.batches += 1

    @torch.no_grad()
    def write(self, layer: BatchNorm) -> None:
        """Give the layer the averages."""
        if not self.batches:
            return
        mean, variance = _statistics(layer)
        mean.copy_(self.mean / self.samples)
        variance.copy_(self.variance / self.samples)
        assert layer.num_batches_tracked is not None
        layer.num_batches_tracked.fill_(self.batches)

    @torch.no_grad()
    def restore(self, layer: BatchNorm) -> None:
        """Give the layer back what it had."""
        for buffer, former in zip(layer.buffers(recurse=False), self.before, strict=True):
            buffer.copy_(former)


def _statistics(layer: BatchNorm) -> tuple[Tensor, Tensor]:
    mean, variance = layer.running_mean, layer.running_var
    assert mean is not None
    assert variance is not None
    return mean, variance
