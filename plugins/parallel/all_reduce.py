"""All-reduce: every rank computes a shard of the batch, and gradients are summed over ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from ...core import Collective, CollectiveStrategy, Learner, PluginOptions

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter


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
        from ...core.training.collective import shard_sums

        loss, used = shard_sums(learner, samples, group)
        for bucket in _buckets([each for _, each in used], self.options.bucket_mb * 2**20):
            _reduce(bucket, len(samples), group)
        return loss


def _buckets(parameters: list[Parameter], limit: float) -> Iterator[list[Parameter]]:
    """Cut the list, in order, into runs of one type and of at most `limit` bytes."""
    bucket: list[Parameter] = []
    size = 0
    for each in parameters:
        if bucket and (size + each.nbytes > limit or each.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(each)
        size += each.nbytes
    if bucket:
        yield bucket


def _reduce(bucket: list[Parameter], count: int, group: Collective) -> None:
    import torch

    grads = [torch.zeros_like(each) if each.grad is None else each.grad for each in bucket]
    flat = torch.cat([grad.reshape(-1) for grad in grads])
    group.all_reduce(flat)
    flat /= count
    start = 0
    for each in bucket:
        each.grad = flat[start : start + each.numel()].view_as(each)
        start += each.numel()
