"""Torch draws the same with the same seed, whatever was drawn before."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import torch


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Draw from torch's default generator with a seed of one's own."""
    with cast(Any, torch.random).fork_rng(devices=[]):
        torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]
        yield
