"""A trial without a scheduler: runs a program in this process, for tests and notebooks."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..candidate import Candidate
from ..errors import ArtifactError, TrialError, TrialPruned, UnknownPluginError, near_misses
from ..groups import Collective
from ..hookspecs import Schedule
from ..parallel import CollectiveStrategy, Learner, RankSession
from ..program import TrialContext
from ..registry import Registry
from ..space import SearchSpace
from ..task import SearchView, Task
from ..training.schedules import SCHEDULES

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..training.shards import ShardedCheckpoint


class LocalTrial(TrialContext):
    """A `TrialContext` that keeps reports in memory, and checkpoints and artifacts in a folder.

    A second trial with the same folder finds the first one's checkpoint, as after a crash.

    Args:
        candidate: what to run.
        space: the candidate's space.
        task: the task; its test split is closed unless `final`.
        folder: where files go.
        seed: the trial's seed.
        number: the trial's number in its stage.
        device: "cpu", "cuda", …
        final: whether this is the final scoring (`Program.test`), which may see the test split.
        stages: artifacts of earlier stages, by stage and kind.
        prune_at: the step whose report stops the trial (`TrialPruned`).
        strategy: makes the gradients, together with `group`.
        registry: where schedules are looked up; by default among Orchestrate's own.
    """

    def __init__(
        self,
        candidate: Candidate,
        space: SearchSpace,
        task: Task,
        folder: Path,
        *,
        seed: int = 0,
        number: int = 0,
        device: str = "cpu",
        final: bool = False,
        stages: Mapping[str, Mapping[str, Path]] | None = None,
        prune_at: int | None = None,
        strategy: tuple[CollectiveStrategy, Collective] | None = None,
        registry: Registry | None = None,
    ) -> None:
        self.candidate = candidate
        self.space = space
        self.task = task if final else SearchView(task)
        self.seed = seed
        self.number = number
        self.reports: list[tuple[int, dict[str, float]]] = []
        """Every report so far: step and metrics."""
        self._device = device
        self._folder = folder
        self._stages = stages or {}
        self._prune_at = prune_at
        self._strategy = strategy
        self._registry = registry

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        import torch

        return torch.device(self._device)

    def report(self, metrics: Mapping[str, float], step: int) -> None:
        bad = {name: value for name, value in metrics.items() if not math.isfinite(value)}
        if bad:
            raise TrialError(f"metrics that are no finite numbers, at step {step}: {bad}")
        self.reports.append((step, {name: float(value) for name, value in metrics.items()}))
        if self._prune_at is not None and step >= self._prune_at:
            raise TrialPruned(f"stopped at step {step}")

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        self._checkpoints.save(state, self.device)

    def restore(self) -> dict[str, Any] | None:
        return self._checkpoints.load()

    def save_artifact(self, kind: str, source: Path) -> None:
        folder = self._folder / "artifacts"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / kind)

    def artifact(self, kind: str, stage: str | None = None) -> Path:
        if stage is None:
            path = self._folder / "artifacts" / kind
            if not path.exists():
                raise ArtifactError(f"the trial has no artifact {kind!r}")
            return path
        try:
            return self._stages[stage][kind]
        except KeyError:
            known = [f"{name}/{one}" for name, kinds in self._stages.items() for one in kinds]
            raise ArtifactError(
                f"no artifact {kind!r} of stage {stage!r}. {near_misses(f'{stage}/{kind}', known)}"
            ) from None

    def schedule(self, name: str, total_steps: int, **options: Any) -> Schedule:
        if self._registry is not None:
            return self._registry.schedule(name)(total_steps, **options)
        if name not in SCHEDULES:
            raise UnknownPluginError(f"no schedule is called {name!r}. {near_misses(name, SCHEDULES)}")
        return SCHEDULES[name](total_steps, **options)

    def gradient(self, learner: Learner, samples: Tensor) -> float:
        if self.session is None:
            return super().gradient(learner, samples)
        return self.session.gradient(learner, samples)

    @cached_property
    def session(self) -> RankSession | None:
        """This rank's part in a collective strategy."""
        if self._strategy is None:
            return None
        strategy, group = self._strategy
        return strategy.open(group, self.seed)

    @cached_property
    def _checkpoints(self) -> ShardedCheckpoint:
        from ..training.shards import ShardedCheckpoint

        return ShardedCheckpoint(self._folder, self.session, self._strategy[1] if self._strategy else None)
