"""BatchNorm re-calibration: running statistics computed afresh for the weights as they are."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
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
    tallies = {layer: Tally() for layer in layers}
    momenta = {layer: layer.momentum for layer in layers}
    before = {layer: [buffer.clone() for buffer in layer.buffers(recurse=False)] for layer in layers}

    @torch.no_grad()
    def add(layer: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        assert isinstance(layer, LAYERS)
        tallies[layer].add(*_statistics(layer), inputs[0])

    hooks = [layer.register_forward_hook(add) for layer in layers]
    try:
        with evaluating(model):
            for layer in layers:
                layer.train()
                layer.momentum = 1.0  # the running statistics are the last batch's
            yield
    except BaseException:
        for layer, former in before.items():
            _write(layer, former)
        raise
    else:
        for layer, tally in tallies.items():
            if tally.batches:
                _write(layer, [*tally.averages(), torch.tensor(tally.batches)])
    finally:
        for hook in hooks:
            hook.remove()
        for layer, momentum in momenta.items():
            layer.momentum = momentum


class Tally:
    """Sums of batches' statistics, weighted by batch size."""

    def __init__(self) -> None:
        self.samples = self.batches = 0
        self._mean = self._variance = torch.empty(0)

    def add(self, mean: Tensor, variance: Tensor, inputs: Tensor) -> None:
        """Add what torch left of the batch `inputs` (n, C, …): means, and *unbiased* variances, (C,)."""
        size = len(inputs)
        values = inputs.numel() // inputs.shape[1]  # of each channel
        biased = size * (values - 1) / values
        if self.batches:
            self._mean.add_(mean, alpha=size)
            self._variance.add_(variance, alpha=biased)
        else:
            self._mean, self._variance = mean * size, variance * biased
        self.samples += size
        self.batches += 1

    def averages(self) -> tuple[Tensor, Tensor]:
        """Mean and biased variance."""
        return self._mean / self.samples, self._variance / self.samples


@torch.no_grad()
def _write(layer: BatchNorm, values: Iterable[Tensor]) -> None:
    for buffer, value in zip(layer.buffers(recurse=False), values, strict=True):
        buffer.copy_(value)


def _statistics(layer: BatchNorm) -> tuple[Tensor, Tensor]:
    mean, variance = layer.running_mean, layer.running_var
    assert mean is not None
    assert variance is not None
    return mean, variance
