"""Optimisers by name."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from .options import TrainingOptions


def make_optimizer(
    model: nn.Module, options: TrainingOptions, undecayed: Iterable[nn.Parameter] = ()
) -> Optimizer:
    """Make the optimiser of `model`'s trainable parameters that the options describe.

    With `decay_norm_and_bias` off, tensors of fewer than two dimensions (biases, the scales and
    shifts of normalisation layers) get no weight decay; those in `undecayed` never do.
    """
    rate, decay = options.learning_rate, options.weight_decay
    groups = _groups(model, decay, options.decay_norm_and_bias, {id(one) for one in undecayed})
    if options.optimizer == "adam":
        return Adam(groups, lr=rate)
    if options.optimizer == "adamw":
        return AdamW(groups, lr=rate)
    nesterov = options.nesterov and options.momentum > 0
    return SGD(groups, lr=rate, momentum=options.momentum, nesterov=nesterov)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def _groups(model: nn.Module, decay: float, everywhere: bool, undecayed: set[int]) -> list[dict[str, object]]:
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    spared = [
        parameter
        for parameter in trainable
        if id(parameter) in undecayed or not (everywhere or parameter.ndim > 1)
    ]
    known = {id(parameter) for parameter in spared}
    weights = [parameter for parameter in trainable if id(parameter) not in known]
    groups = [(weights, decay), (spared, 0.0)]
    return [{"params": members, "weight_decay": rate} for members, rate in groups if members]
