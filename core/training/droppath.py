"""Drop path: a residual branch or cell edge that is switched off at random, sample by sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Zero whole samples with a probability, and divide the others by the probability to be kept.

    The identity in eval mode. `probability` may be changed while training, as by the rising
    schedules of NAS papers (FractalNet, arXiv 1605.07648; per sample as in DARTS, 1806.09055).
    Draws from torch's default generator, which the learner seeds by step and chunk of samples.
    """

    def __init__(self, probability: float = 0.0) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"drop path needs 0 <= probability < 1, got {probability}")
        self.probability = probability

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (n, ...) to (n, ...)."""
        if not self.training or self.probability == 0:
            return inputs
        kept = 1.0 - self.probability
        shape = (len(inputs), *[1] * (inputs.ndim - 1))
        mask = torch.empty(shape, dtype=inputs.dtype, device=inputs.device).bernoulli_(kept)
        return inputs * mask / kept

    def extra_repr(self) -> str:
        """Show the probability."""
        return f"probability={self.probability:g}"
