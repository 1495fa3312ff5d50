"""Scores a network on a split."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..task import Split
from .losses import cross_entropy_sum
from .modes import evaluating


def score(model: nn.Module, split: Split, device: torch.device, batch_size: int = 1000) -> dict[str, float]:
    """Return `accuracy` (share of correct answers, 0 to 1) and `loss` (mean cross entropy, nats).

    In eval mode and full precision; the network's modes are put back.
    """
    correct, loss = 0, 0.0
    with torch.inference_mode(), evaluating(model):
        for start in range(0, len(split.targets), batch_size):
            targets = split.targets[start : start + batch_size].to(device)
            logits: Tensor = model(split.inputs[start : start + batch_size].to(device))
            correct += int((logits.argmax(dim=1) == targets).sum())
            loss += float(cross_entropy_sum(logits, targets))
    return {"accuracy": correct / len(split.targets), "loss": loss / len(split.targets)}
