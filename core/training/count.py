"""Counts a network's parameters and floating-point operations."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call  # pyright: ignore[reportUnknownVariableType]
from torch.utils.flop_counter import FlopCounterMode

from .modes import evaluating


def parameters(model: nn.Module) -> int:
    """Count the scalars in `model`'s parameters. A shared tensor counts once, buffers don't."""
    return sum(parameter.numel() for parameter in model.parameters())


def flops(model: nn.Module, shape: tuple[int, ...], batch: int = 1) -> int:
    """Count the floating-point operations of one forward pass in eval mode.

    A multiply-add counts as 2 (papers that report "FLOPs" often mean multiply-adds, half of this).
    Convolutions, matrix products and attention count; element-wise operations, normalisation and
    pooling don't, as in `torch.utils.flop_counter`.

    The pass runs on the meta device: shapes only, no arithmetic, no copy of the weights. A network
    that looks at values or makes tensors on a fixed device can't run there, and is run on its own
    device, with zeros as input, to the same count.

    Args:
        model: any network; its modes, weights and buffers are left as they are.
        shape: one input's shape without the batch, (channels, height, width).
        batch: inputs in the pass.
    """
    first = next(iter(model.parameters()), torch.empty(0))
    inputs = torch.zeros(batch, *shape, dtype=first.dtype, device="meta")
    with torch.no_grad(), evaluating(model):
        try:
            return _count(model, _on_meta(model), inputs)
        except (
            NotImplementedError,
            RuntimeError,
        ):  # an error of the network's own comes back below
            return _count(model, {}, torch.zeros_like(inputs, device=first.device))


def _on_meta(model: nn.Module) -> dict[str, Tensor]:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}


def _count(model: nn.Module, tensors: dict[str, Tensor], inputs: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        functional_call(model, tensors, (inputs,))
    return counter.get_total_flops()
