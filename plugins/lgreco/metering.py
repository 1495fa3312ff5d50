"""Bytes that a rank really sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core import Collective

if TYPE_CHECKING:
    from torch import Tensor


def all_reduce_bytes(size: float, ranks: int) -> float:
    """Bytes that each rank sends to add up `size` bytes over a ring."""
    return 2 * (ranks - 1) / ranks * size


def all_gather_bytes(size: float, ranks: int) -> float:
    """Bytes that each rank sends to hand `size` bytes of its own to all others over a ring."""
    return (ranks - 1) * size


class Metered:
    """A `Collective` that counts in `sent` the bytes of the tensors handed to it, as a ring sends them."""

    def __init__(self, group: Collective) -> None:
        self._group = group
        self.sent = 0.0
        self.calls = 0

    @property
    def rank(self) -> int:
        """This process's rank."""
        return self._group.rank

    @property
    def size(self) -> int:
        """Number of ranks."""
        return self._group.size

    def all_reduce(self, tensor: Tensor) -> None:
        """Sum over the ranks, in place."""
        self.calls += 1
        self.sent += all_reduce_bytes(tensor.nbytes, self.size)
        self._group.all_reduce(tensor)

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """Every rank's tensor, in rank order."""
        self.calls += 1
        self.sent += all_gather_bytes(tensor.nbytes, self.size)
        return self._group.all_gather(tensor)

    def all_to_all(self, tensor: Tensor) -> Tensor:
        """Row r to rank r; the rows for this one."""
        self.calls += 1
        self.sent += (self.size - 1) / self.size * tensor.nbytes
        return self._group.all_to_all(tensor)
