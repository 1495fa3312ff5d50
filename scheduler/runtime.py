"""A worker process's own copy of the job: plugins found, task loaded, once a process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..core.job import Job, Stage
from ..core.registry import Registry
from ..core.resolver import resolve
from ..core.task import SearchView, Task
from ..storage.artifacts import ArtifactStore
from .trial import Place, TrialOrder, WorkerTrial


@dataclass(frozen=True)
class Remit:
    """What every worker of a stage must know: plain data, sent with each launch."""

    job_id: str
    spec: str
    """The job's spec as JSON."""
    stage: int
    store: str
    """Root of the artifact store, reachable from every node."""
    gpu: bool = False
    without: tuple[str, ...] = ()

    def data(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Remit:
        """Back from JSON data."""
        fields: dict[str, Any] = {**data, "without": tuple(data["without"])}
        return cls(**fields)

    def job(self) -> Job:
        """The job, rebuilt in this process (kept for the next trial)."""
        return _job(self.spec, self.without)

    def place(self, group: Any = None) -> Place:
        """Where this process's trials run."""
        return Place(self.job_id, ArtifactStore(Path(self.store)), self.gpu, group)

    def stage_of(self, job: Job) -> Stage:
        """The stage."""
        return job.stages[self.stage]

    def trial(
        self, order: Mapping[str, Any], group: Any = None, *, open_test: bool = False
    ) -> tuple[Stage, WorkerTrial]:
        """The stage, and a trial of it whose reports go nowhere, from its order as JSON data."""
        job = self.job()
        stage, task = self.stage_of(job), self.task(job, open_test=open_test)
        place = self.place(group)
        return stage, WorkerTrial(TrialOrder(**order), stage, task, job.registry, place, lambda _: None)

    def task(self, job: Job, *, open_test: bool = False) -> Task:
        """The task as a search sees it; with `open_test` as the final scoring does."""
        return job.task if open_test else SearchView(job.task)


@lru_cache(maxsize=4)
def _job(spec: str, without: tuple[str, ...]) -> Job:
    return resolve(json.loads(spec), Registry.discover(without), check=False)
