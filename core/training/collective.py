"""What collective strategies share: a rank's part of a batch, and what all ranks together have used."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ..groups import Collective
from ..parallel import Learner


def shard_sums(
    learner: Learner, samples: Tensor, group: Collective
) -> tuple[float, list[tuple[str, nn.Parameter]]]:
    """Leave this rank's part of the gradient in `.grad`: a sum over its shard of the batch.

    Shards are contiguous, one a rank, even or nearly so; a rank may get none. A parameter that no rank
    has used keeps None, as in one process: an optimiser skips it.

    Returns:
        The mean loss over the whole batch, and the parameters that some rank has used, by name; on
        this rank their gradient may be None.
    """
    learner.model.zero_grad(set_to_none=True)
    parameters = [(name, each) for name, each in learner.model.named_parameters() if each.requires_grad]
    shard = samples.tensor_split(group.size)[group.rank]
    loss = 0.0
    if len(shard):
        total = learner.loss_sum(shard)
        total.backward()  # pyright: ignore[reportUnknownMemberType]
        loss = float(total.detach())
    head = [loss, *(each.grad is not None for _, each in parameters)]
    sums = torch.tensor(head, dtype=torch.float64, device=parameters[0][1].device)
    group.all_reduce(sums)
    used = [each for each, users in zip(parameters, sums[1:], strict=True) if users]
    return float(sums[0]) / len(samples), used


def add_up(group: Collective, tensors: Sequence[Tensor], limit: float = math.inf) -> list[Tensor]:
    """Sums over the ranks of several tensors, in as few messages as types and `limit` allow.

    Args:
        group: the ranks; each gives the same shapes and types in the same order.
        tensors: of this rank.
        limit: most bytes of a message, unless one tensor alone is larger.
    """
    sums: list[Tensor] = []
    for run in _runs(tensors, limit):
        flat = torch.cat([each.reshape(-1) for each in run])
        group.all_reduce(flat)
        parts: Sequence[Tensor] = torch.split(flat, [each.numel() for each in run])
        sums += [part.view(each.shape) for part, each in zip(parts, run, strict=True)]
    return sums


def _runs(tensors: Sequence[Tensor], limit: float) -> Iterator[list[Tensor]]:
    """Cut the list, in order, into runs of one type and of at most `limit` bytes."""
    run: list[Tensor] = []
    size = 0
    for each in tensors:
        if run and (size + each.nbytes > limit or each.dtype != run[0].dtype):
            yield run
            run, size = [], 0
        run.append(each)
        size += each.nbytes
    if run:
        yield run
