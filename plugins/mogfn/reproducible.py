"""Torch computes the same with the same seed, on any machine."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import torch


@contextmanager
def one_thread() -> Generator[None]:
    """Compute on one thread: small networks are fastest so, and sums come out alike everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Draw from torch's default generator with a seed of one's own."""
    with cast(Any, torch.random).fork_rng(devices=[]):
        torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]
        yield
