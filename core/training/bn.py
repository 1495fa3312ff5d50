"""BatchNorm re-calibration: running statistics computed afresh for the weights as they are."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .modes import evaluating

LAYERS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace BatchNorm's running statistics by the average over `batches`.

    Every BatchNorm layer that a forward pass reaches starts anew and averages the batches' means
    and variances, each batch with equal weight. Layers that no pass reaches keep their statistics.
    All else in the network stays as it is: weights, modes (only BatchNorm trains meanwhile: dropout
    is off) and momenta.

    Args:
        model: the network.
        batches: inputs (n, C, H, W) from the *training* split, on the network's device, without
            random changes.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, LAYERS)]
    layers = [layer for layer in layers if layer.track_running_stats]
    momenta = [layer.momentum for layer in layers]
    reached: set[nn.Module] = set()
    hooks = [layer.register_forward_pre_hook(partial(_start, reached)) for layer in layers]
    try:
        with torch.no_grad(), evaluating(model):
            for layer in layers:
                layer.train()
                layer.momentum = None  # torch's word for a cumulative average
            for batch in batches:
                model(batch)
    finally:
        for hook in hooks:
            hook.remove()
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def _start(reached: set[nn.Module], layer: nn.Module, _inputs: Any) -> None:
    if layer not in reached:
        reached.add(layer)
        assert isinstance(layer, LAYERS)
        layer.reset_running_stats()
