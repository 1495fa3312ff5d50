"""All-reduce: every rank computes a shard of the batch, and gradients are summed over ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from ...core import Collective, CollectiveStrategy, Learner, PluginOptions

if TYPE_CHECKING:
    from torch import Tensor


class AllReduceOptions(PluginOptions):
    """Options of `all-reduce`."""

    bucket_mb: float = Field(
        default=25.0,
        gt=0,
        description="MiB of gradients sent in one message (more for a larger tensor).",
    )


class AllReduce(CollectiveStrategy[AllReduceOptions]):
    """Synchronous data-parallel gradients.

    The batch is cut into one contiguous shard a rank, even or nearly so; a rank may get none. Sums
    travel and are divided once by the batch's size, so the result is the gradient that one process
    computes, up to rounding. BatchNorm is the exception: it normalises over each shard alone, and
    each rank keeps running statistics of its own.
    """

    name: ClassVar[str] = "all-reduce"
    summary: ClassVar[str] = "each worker computes a shard of the batch; gradients are summed"

    def gradient(self, learner: Learner, samples: Tensor, group: Collective) -> float:
        import torch

        from ...core.training.collective import add_up, shard_sums

        loss, named = shard_sums(learner, samples, group)
        used = [each for _, each in named]
        shares = [torch.zeros_like(each) if each.grad is None else each.grad for each in used]
        for each, total in zip(used, add_up(group, shares, self.options.bucket_mb * 2**20), strict=True):
            each.grad = total.div_(len(samples))
        return loss
