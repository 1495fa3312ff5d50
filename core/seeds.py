"""Seeds: one a job, split by stage and trial, so that no result depends on who ran it or when."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np
import wrapt

_latest: int | None = None  # what `seed_all` was called with last


def spawn(seed: int, *path: int) -> int:
    """Derive the 63-bit seed of the node `path` (stage number, trial number, …) in the job's seed tree."""
    state = np.random.SeedSequence(seed, spawn_key=path).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def generator(seed: int, *path: int) -> np.random.Generator:
    """NumPy generator for the node `path` of the seed tree."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=path))


def seed_all(seed: int) -> None:
    """Seed the global generators that a program might draw from."""
    global _latest
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - for programs that draw from it
    before, _latest = _latest, seed
    if torch := sys.modules.get("torch"):
        _seed_torch(torch)
    elif before is None:  # a program may be the first to import it; a second's work, to others for nothing
        wrapt.register_post_import_hook(_seed_torch, "torch")


def _seed_torch(torch: Any) -> None:
    torch.manual_seed(_latest)
