"""A process group of one's own: whoever else sends something over the ranks isn't disturbed."""

# torch's own annotations are partial.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor


class PrivateGroup:
    """A `Collective` over torch.distributed, of the ranks and with the backend of another group.

    Made on all of these ranks at once.
    """

    def __init__(self, like: dist.ProcessGroup, timeout: timedelta | None = None) -> None:
        self._group = dist.new_group(
            dist.get_process_group_ranks(like),
            timeout,
            dist.get_backend(like),
            use_local_synchronization=True,  # others need not take part
        )
        self.rank = dist.get_rank(like)
        self.size = dist.get_world_size(like)

    def all_reduce(self, tensor: Tensor) -> None:
        """Sum over ranks, in place."""
        dist.all_reduce(tensor, group=self._group)

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """Every rank's tensor, in rank order."""
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor, group=self._group)
        return parts

    def all_to_all(self, tensor: Tensor) -> Tensor:
        """Row r to rank r; the rows for this one."""
        rows = torch.empty_like(tensor)
        dist.all_to_all_single(rows, tensor, group=self._group)
        return rows
