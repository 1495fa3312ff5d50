"""Sets the number of torch's CPU threads for the length of a block."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def threads(count: int | None = 1) -> Generator[None]:
    """Let torch's CPU kernels use `count` threads (None: as many as it is set to); afterwards as before.

    On one thread small networks are fastest, and sums come out alike on every machine.
    """
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
