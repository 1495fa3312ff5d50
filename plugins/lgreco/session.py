"""A trial's rank with compressed gradients."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...core import Collective, Learner
from ...core.training.collective import shard_sums
from .compression import Compression, Rules

if TYPE_CHECKING:
    from torch import Tensor


class Session:
    """One rank of a trial. Rank 0 tells what was decided, and what it brought."""

    def __init__(self, rules: Rules, group: Collective, seed: int) -> None:
        self._group = group
        self._compression = Compression(rules, group, seed)

    def gradient(self, learner: Learner, samples: Tensor) -> float:
        """Leave the mean gradient in `.grad`, as compression left it; returns the mean loss."""
        begun = time.perf_counter()
        loss, used = shard_sums(learner, samples, self._group)
        # In units in which the ranks' mean is the batch's. Without the scale of a loss under float16:
        # it changes, and what is still owed would be in old units.
        scale = _loss_scale(learner)
        unit = scale * len(samples) / self._group.size
        given = {
            name: torch.zeros_like(each) if each.grad is None else each.grad / unit for name, each in used
        }
        means = self._compression.exchange(given)
        self._compression.end_step(begun)
        for name, each in used:
            each.grad = means[name] * scale
        return loss

    def state(self) -> Mapping[str, Any]:
        """What this rank owes, and what was decided."""
        return self._compression.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._compression.load(state)

    def metrics(self) -> Mapping[str, float]:
        """Figures of the compression so far."""
        return self._compression.record.metrics()

    def artifacts(self, folder: Path) -> Mapping[str, Path]:
        """The decisions as data and as a picture."""
        return self._compression.record.write(folder)


def _loss_scale(learner: Learner) -> float:
    """The factor that a learner's sums carry under float16."""
    precision = getattr(learner, "precision", None)
    return float(precision.scaler.get_scale()) if precision is not None else 1.0
