"""Losses as sums over samples: sums of parts of a batch add up to the sum of the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy_sum(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Sum the cross entropy over samples.

    Args:
        logits: (n, classes).
        targets: int64 (n,), or the classes' probabilities (n, classes).
        label_smoothing: share of each target that is spread evenly over all classes
            (arXiv 1512.00567, section 7).
    """
    return functional.cross_entropy(logits, targets, reduction="sum", label_smoothing=label_smoothing)


def distillation_sum(logits: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Sum the soft distillation loss over samples: T² KL(teacher at T || student at T).

    T² keeps the gradient's size independent of the temperature (arXiv 1503.02531, section 2). The
    gradient is that of the cross entropy with soft targets; the value is 0 for equal logits.

    Args:
        logits: (n, classes), the student's.
        teacher: (n, classes), the teacher's; no gradient flows into them.
        temperature: T, above 0.
    """
    student = torch.log_softmax(logits / temperature, dim=1)
    target = torch.log_softmax(teacher.detach() / temperature, dim=1)
    divergence = functional.kl_div(student, target, reduction="sum", log_target=True)
    return divergence * temperature**2


def logit_distillation_sum(logits: Tensor, teacher: Tensor) -> Tensor:
    """Sum over samples of the mean squared difference of logits (1312.6184).

    Args:
        logits: (n, classes), the student's.
        teacher: (n, classes), the teacher's; no gradient flows into them.
    """
    return functional.mse_loss(logits, teacher.detach(), reduction="sum") / logits.shape[1]
