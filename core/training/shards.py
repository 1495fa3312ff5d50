"""A trial's checkpoint when several ranks train it: rank 0's file, and beside it a file of each rank.

What a collective strategy holds differs from rank to rank (the error that a compressor owes), so that
each rank writes its own. The main file names them, and is written when all of them are on the disk: a
crash at any moment leaves a checkpoint whose parts belong together.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..groups import Collective
from ..parallel import RankSession
from .checkpoint import load_state, save_state

FILE = "checkpoint.pt"
SHARDS = "__shards__"  # key in the main file: the shards' version and number


class ShardedCheckpoint:
    """Writes and reads the checkpoints of one attempt at a trial, on one rank.

    Args:
        folder: the trial's, the same on all ranks.
        session: whose state is kept; None without a group.
        group: the ranks.
        attempt: distinguishes files from those of an earlier attempt that may still be about.
    """

    def __init__(
        self, folder: Path, session: RankSession | None, group: Collective | None, attempt: int = 0
    ) -> None:
        self._folder = folder
        self._session = session
        self._group = group
        self._attempt = attempt
        self._version = 0

    def save(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Write a checkpoint. All ranks call it; `state` is rank 0's."""
        held: Mapping[str, Any] = self._session.state() if self._session is not None else {}
        if not held or self._group is None:
            if self._group is None or self._group.rank == 0:
                save_state(state, self._folder / FILE)
            return
        self._version += 1
        name = f"shard-{self._attempt}-{self._version}"
        save_state(held, self._folder / f"{name}-{self._group.rank}.pt")
        self._group.all_reduce(torch.zeros(1, device=device))  # all are on the disk
        if self._group.rank == 0:
            former = set(self._folder.glob("shard-*.pt")) - set(self._folder.glob(f"{name}-*.pt"))
            pointer = {"name": name, "version": self._version, "ranks": self._group.size}
            save_state({**state, SHARDS: pointer}, self._folder / FILE)
            for path in former:
                path.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """Read the latest checkpoint, and give this rank's part to the session. None: there is none.

        Raises:
            ArtifactError: a file is missing or damaged.
        """
        if not (self._folder / FILE).exists():
            return None
        state = load_state(self._folder / FILE)
        pointer = state.pop(SHARDS, None)
        if pointer is not None and self._session is not None and self._group is not None:
            self._version = pointer["version"]
            self._session.load(load_state(self._folder / f"{pointer['name']}-{self._group.rank}.pt"))
        return state
