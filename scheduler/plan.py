"""What a job would do, before it spends anything: `orchestrate plan` and `submit --dry-run`."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..core.candidate import Candidate
from ..core.errors import CatalogError
from ..core.job import Job, Stage
from ..core.parallel import Forecast
from ..core.registry import Source
from ..core.seeds import generator
from ..core.space import Choice, Real
from ..storage.artifacts import ArtifactStore, safe_name
from ..storage.catalog import Catalog
from .cluster import Capacity, check_fit, concurrency, processes_of, workers_of
from .examine import Examination, Examiner
from .provenance import used_plugins
from .runtime import Remit
from .settings import Settings
from .trial import Place, TrialOrder, WorkerTrial, describe

EARLIER = 5  # runs of a job that are looked at


@dataclass(frozen=True)
class Rehearsal:
    """One sampled candidate, examined and tried for one batch."""

    candidate: dict[str, Any]
    values: dict[str, float]
    infeasible: str | None
    seconds_per_trial: float | None
    took: float
    error: str = ""


@dataclass(frozen=True)
class StagePlan:
    """What one stage would do."""

    name: str
    program: str
    sampler: str
    space: str
    space_size: int | None
    trials: int | None
    batch: int
    workers: int
    concurrency: int
    cpu: float
    """Each worker's, as `gpu`."""
    gpu: float
    seconds: float | None
    """Estimated, for the whole stage, if nothing is recalled."""
    rehearsal: Rehearsal | None
    strategy: str | None = None
    """The parallel strategy of its workers."""
    forecast: Forecast | None = None
    """What the strategy is expected to bring, where that is known."""


@dataclass(frozen=True)
class Plan:
    """What the job would do, and with whose code."""

    job: str
    stages: tuple[StagePlan, ...]
    capacity: Capacity
    plugins: tuple[tuple[str, str, Source], ...]
    """Kind, name and source of each plugin that would run."""

    @property
    def ok(self) -> bool:
        """Whether every rehearsal went well."""
        return all(stage.rehearsal is None or not stage.rehearsal.error for stage in self.stages)

    def data(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)


def plan(job: Job, capacity: Capacity, settings: Settings | None = None) -> Plan:
    """Rehearse the job in this process. `settings` tell where earlier runs of it are remembered.

    Raises:
        SpecError: a trial can never be placed on such a cluster.
    """
    check_fit(job, capacity)
    known = forecasts(job, settings)
    return Plan(
        job.spec.name,
        tuple(_stage(stage, job, capacity, known.get(stage.spec.name)) for stage in job.stages),
        capacity,
        tuple(used_plugins(job)),
    )


def forecasts(job: Job, settings: Settings | None) -> dict[str, Forecast]:
    """What each stage's parallel strategy is expected to bring, by stage, where that is known."""
    found: dict[str, Forecast] = {}
    for stage in job.stages:
        if stage.strategy is None or stage.strategy.evidence is None:
            continue
        models = stage.batch if stage.goals else 1
        told = stage.strategy.forecast(workers_of(stage), models, earlier(stage, job, settings))
        if told is not None:
            found[stage.spec.name] = told
    return found


def earlier(stage: Stage, job: Job, settings: Settings | None) -> list[Path]:
    """What the stage's strategy left of its rounds in earlier runs of the job, the newest first."""
    assert stage.strategy is not None
    if settings is None:
        return []
    try:
        catalog = Catalog.open(settings.catalog_url, create=False)
    except CatalogError:  # there is none yet; whoever needs it says so
        return []
    found: dict[str, Path] = {}
    with catalog:
        runs = [row for row in catalog.jobs() if row.name == job.spec.name][:EARLIER]
        for row in runs:
            for file in reversed(catalog.artifacts(row.id, kind=stage.strategy.evidence)):
                path = Path(file.uri)
                if safe_name(stage.spec.name) in path.parts and path.is_file():
                    found.setdefault(file.sha256, path)
    return list(found.values())


def _stage(stage: Stage, job: Job, capacity: Capacity, forecast: Forecast | None) -> StagePlan:
    spec = stage.spec
    searches = stage.sampler is not None
    rehearsal = _rehearse(stage, job) if searches or spec.take is None else None
    trials = spec.trials if searches else (spec.take.pareto or spec.take.best if spec.take else 1)
    width = concurrency(stage, capacity)
    seconds = None
    if rehearsal is not None and rehearsal.seconds_per_trial is not None and trials is not None:
        seconds = rehearsal.seconds_per_trial * math.ceil(trials / width)
        seconds = min(seconds, spec.time_budget or seconds)
    return StagePlan(
        name=spec.name,
        program=spec.program.name,
        sampler=spec.sampler.name if spec.sampler else ("take" if spec.take else "none"),
        space=stage.space.name,
        space_size=stage.space.size() if searches else None,
        trials=trials,
        batch=stage.batch,
        workers=workers_of(stage),
        concurrency=width,
        cpu=stage.resources.cpu * processes_of(stage),
        gpu=stage.resources.gpu * processes_of(stage),
        seconds=seconds,
        rehearsal=rehearsal,
        strategy=stage.strategy.name if stage.strategy else None,
        forecast=forecast,
    )


def _rehearse(stage: Stage, job: Job) -> Rehearsal:
    begun = time.perf_counter()
    candidate = stage.space.generate(_uniform(stage)) if stage.sampler else Candidate()
    examination: Examination = Examiner(stage, job)(candidate)
    seconds, error = None, ""
    if examination.error is not None:
        error = f"{examination.error['type']}: {examination.error['message']}"
    elif not _needs_earlier(stage, job):
        with tempfile.TemporaryDirectory(prefix="orchestrate-plan-") as folder:
            place = Place("plan", ArtifactStore(Path(folder)))
            order = TrialOrder(0, 0, dict(candidate), stage.trial_seed(0), 1, examination.values)
            remit = Remit("plan", "", stage.index, folder)
            trial = WorkerTrial(order, stage, remit.task(job), job.registry, place, lambda _: None)
            try:
                with _threads(stage):
                    seconds = stage.program.rehearse(trial)
            except Exception as failure:  # noqa: BLE001 - whatever the user's code raises is shown in the plan
                described = describe(failure)
                error = f"{described['type']}: {described['message']}"
    return Rehearsal(
        dict(candidate),
        dict(examination.values),
        examination.infeasible,
        seconds,
        time.perf_counter() - begun,
        error,
    )


@contextmanager
def _threads(stage: Stage) -> Generator[None]:
    """As many threads as a worker would have, or the estimate is of another machine."""
    if not stage.program.needs_network:
        yield
        return
    from ..core.training.threads import threads

    with threads(max(1, int(stage.resources.cpu))):
        yield


def _needs_earlier(stage: Stage, job: Job) -> bool:
    """Whether the program refers to an earlier stage, whose artifacts aren't there yet."""
    names = {earlier.spec.name for earlier in job.stages[: stage.index]}
    return any(value in names for value in stage.spec.program.options.values() if isinstance(value, str))


def _uniform(stage: Stage) -> Any:
    random = generator(stage.problem.seed, 2)

    def pick(choice: Choice) -> Any:
        values = choice.values
        if values is not None:
            return values[int(random.integers(len(values)))]
        assert isinstance(choice, Real)
        return float(random.uniform(choice.low, choice.high))

    return pick
