"""Runs somebody's network for a measurement and leaves no trace in it or in torch's settings."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...core import Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """Put `model` in eval mode without gradients; afterwards each part is in its own mode again."""
    import torch

    from ...core.training import modes

    with modes.evaluating(model), torch.no_grad():
        yield


def example(shape: Shape, batch_size: int, device: torch.device) -> Tensor:
    """A batch of standard normal inputs, (batch_size, *shape.input), always the same."""
    import torch

    source = torch.Generator().manual_seed(0)
    return torch.randn(batch_size, *shape.input, generator=source).to(device)
