"""What collective strategies share: a rank's part of a batch, and what all ranks together have used."""

from __future__ import annotations

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
