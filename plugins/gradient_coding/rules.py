"""What a learner must keep to, so that whoever computes a chunk of samples computes the same sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage] - the base of all

from ...core import Learner, TrialError
from ...core.training.learner import seeded


def check_batch_norm(learner: Learner) -> None:
    """Refuse a network whose gradient depends on how a batch is cut.

    Raises:
        TrialError: it has BatchNorm in training mode.
    """
    modules: list[tuple[str, nn.Module]] = list(learner.model.named_modules())  # pyright: ignore[reportUnknownArgumentType]
    for name, module in modules:
        if isinstance(module, _BatchNorm) and module.training:
            raise TrialError(
                f"layer {name!r} is a {type(module).__name__} in training mode: it normalises over what "
                "one worker computes at once, so that the gradient would not be that of the whole batch. "
                "Take GroupNorm, freeze the layer (`eval()`), or set the strategy's `batch_norm: per-chunk`, "
                "which normalises over each chunk and averages the running statistics"
            )


def check_buffers(
    learner: Learner, now: Sequence[Tensor], before: Sequence[Tensor], counts: Sequence[int]
) -> None:
    """Refuse a network that has changed its buffers, or its counters.

    Raises:
        TrialError: it has.
    """
    same = all(torch.equal(new, old) for new, old in zip(now, before, strict=True))
    if not same or any(counts):
        raise TrialError(
            f"the network of {type(learner).__name__} changes its buffers while it computes the loss, "
            "which one process would do once a batch and workers do once a chunk. Freeze them (`eval()` of "
            "the layer), or set the strategy's `batch_norm: per-chunk` to average the changes"
        )


def prove(learner: Learner, backward: Callable[[], float]) -> None:
    """Compute a chunk twice, with other states of the global generators.

    Raises:
        TrialError: the sums differ, or depend on no parameter of the learner's model.
    """
    device = next((one.device for one in learner.model.parameters()), torch.device("cpu"))
    state = np.random.get_state()  # noqa: NPY002 - for learners that draw from it
    results: list[list[Tensor]] = []
    try:
        for seed in (1, 2):
            np.random.seed(seed)  # noqa: NPY002
            with seeded(seed, device):
                loss = backward()
            grads = [one.grad.clone() for one in learner.model.parameters() if one.grad is not None]
            results.append([torch.tensor(loss), *grads])
    finally:
        np.random.set_state(state)  # noqa: NPY002
    if len(results[0]) == 1:
        raise TrialError(
            f"{type(learner).__name__}.loss_sum depends on no parameter of its `model`, as a worker sees it: "
            "compute the loss with `self.model`, not with a network from elsewhere"
        )
    pairs = list(zip(*results, strict=False))
    if not all(torch.allclose(*pair, rtol=1e-2, atol=1e-5) for pair in pairs):
        raise TrialError(
            f"{type(learner).__name__}.loss_sum gives another sum each time for the same samples, so that "
            "workers that should agree won't: draw its random numbers from a generator seeded by trial, "
            "step and samples, as `core.training.learner.SupervisedLearner` does"
        )
