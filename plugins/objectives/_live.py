"""Counts the bytes of living tensors, operation by operation.

PyTorch's CPU allocator keeps no statistics, its profiler sees whatever other threads and kernels
allocate, and `torch.distributed._tools.MemTracker` is private. But a storage can be watched: an
operation's output brings it, and a weak reference is told of its end.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode  # the documented place, for all its name
from torch.utils._pytree import tree_leaves


class LiveTensors(TorchDispatchMode):
    """Within this context, `now` and `peak` are the bytes of tensors made by operations and alive.

    A storage counts once, whatever views it has, and in full. Tensors that `ignoring` lists don't
    count, nor do views of them. Only operations of the thread that entered the context are seen.
    """

    def __init__(self, ignoring: Iterable[Tensor] = ()) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.now = 0
        self.peak = 0
        self._known: dict[int, Any] = {
            id(storage): storage for storage in (tensor.untyped_storage() for tensor in ignoring)
        }

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self.counted(leaf)
        return made

    def counted(self, tensor: Tensor) -> Tensor:
        """Count a tensor that was made outside; return it."""
        storage = tensor.untyped_storage()
        key = id(storage)
        if key not in self._known:
            size = storage.nbytes()
            self._known[key] = weakref.ref(storage, lambda _: self._gone(key, size))
            self.now += size
            self.peak = max(self.peak, self.now)
        return tensor

    def _gone(self, key: int, size: int) -> None:
        del self._known[key]
        self.now -= size
