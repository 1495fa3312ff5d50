"""Seeds: one a job, split by stage and trial, so that no result depends on who ran it or when."""

from __future__ import annotations

import random

import numpy as np


def spawn(seed: int, *path: int) -> int:
    """Derive the 63-bit seed of the node `path` (stage number, trial number, …) in the job's seed tree."""
    state = np.random.SeedSequence(seed, spawn_key=path).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def generator(seed: int, *path: int) -> np.random.Generator:
    """NumPy generator for the node `path` of the seed tree."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=path))


def seed_all(seed: int) -> None:
    """Seed the global generators that a program might draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - for programs that draw from it
    import torch  # a program may be the first to import it, and then drew from an unseeded generator

    torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]
