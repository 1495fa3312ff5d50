"""What a sampler learns from the catalog's log: by a resumed stage, or to answer a question."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ..core.candidate import Candidate
from ..core.errors import ArtifactError, SpaceExhausted, SpecError, near_misses
from ..core.job import Job, Stage
from ..core.pareto import violation
from ..core.preference import normalised
from ..core.registry import Registry
from ..core.resolver import resolve
from ..core.sampler import Observation, Outcome, Sampler, Suggestion
from ..core.space import replay
from ..storage.artifacts import ArtifactStore
from ..storage.catalog import Catalog
from ..storage.models import ArtifactRow, JobRow, TrialRow

log = logging.getLogger(__name__)


def trained_kind(stage: str) -> str:
    """Kind of the artifact with what a stage's sampler has trained."""
    return f"sampler/{stage}"


def observation(stage: Stage, outcome: Outcome, values: Mapping[str, float]) -> Observation:
    """What the stage's sampler is told of a trial."""
    return Observation(outcome, dict(values), violation(values, stage.goals))


@dataclass(frozen=True)
class Event:
    """An ask or, with an observation, a tell."""

    number: int
    candidate: Candidate
    observation: Observation | None


def restore_sampler(sampler: Sampler, stage: Stage, logged: Iterable[tuple[str, TrialRow]]) -> Sampler:
    """Bring a fresh, started sampler to where the event log ends, in the way that its `restore` declares.

    Returns it, or another of its kind: where asks are executed again and one differs from the log, that
    is said, and a fresh sampler is told the history instead.
    """
    events = _events(stage, logged)
    if sampler.restore == "re-ask":
        if _asked_again(sampler, events):
            return sampler
        sampler = type(sampler)(sampler.options)
        sampler.start(stage.problem)
    for event in events:
        if event.observation is None:
            sampler.adopt(event.number, event.candidate)
        else:
            sampler.tell(event.number, event.candidate, event.observation)
    return sampler


def sample(
    catalog: Catalog,
    row: JobRow,
    preference: Mapping[str, float],
    count: int,
    registry: Registry,
    stage: str | None = None,
) -> tuple[dict[str, float], Sequence[Suggestion]]:
    """Ask a job's sampler, as its log left it, for candidates that serve `preference`.

    Reads the catalog and changes nothing: the job may be over, or running. `stage` is by default the
    last that has a sampler. Gives the weights, scaled to sum 1, and the candidates.

    Raises:
        SpecError: no such stage or objective; or the sampler can't be asked for a preference.
    """
    job = resolve(row.spec, registry)
    asked = _stage(job, stage)
    weights = normalised(preference, asked.goals)
    sampler = asked.sampler
    assert sampler is not None
    if not sampler.serves_preferences():
        others = [
            entry.plugin.name
            for entry in registry
            if issubclass(entry.plugin, Sampler) and entry.plugin.serves_preferences()
        ]
        raise SpecError(
            f"stage {asked.spec.name!r} was sampled by {sampler.name!r}, which can't be asked for a "
            f"preference. Samplers that can: {', '.join(others) or 'none is installed'}"
        )
    sampler.start(asked.problem)
    stages = {found.name: found.id for found in catalog.stages(row.id)}
    sampler = restore_sampler(sampler, asked, catalog.events(stages[asked.spec.name]))
    for kept in catalog.artifacts(row.id, kind=trained_kind(asked.spec.name)):
        _load(sampler, kept)
    return weights, sampler.propose_for(weights, count)


def _load(sampler: Sampler, kept: ArtifactRow) -> None:
    try:
        path = ArtifactStore(Path()).verify(kept.uri, kept.sha256)
    except ArtifactError as error:
        log.warning("%s. What sampler %r trained is trained again", error, sampler.name)
    else:
        sampler.load(path.read_bytes())


def _stage(job: Job, name: str | None) -> Stage:
    sampled = {stage.spec.name: stage for stage in job.stages if stage.sampler is not None}
    if not sampled:
        raise SpecError(f"no stage of job {job.spec.name!r} has a sampler, so there is none to ask")
    if name is None:
        return list(sampled.values())[-1]
    if name not in sampled:
        raise SpecError(f"no stage with a sampler is called {name!r}. {near_misses(name, sampled)}")
    return sampled[name]


def _events(stage: Stage, logged: Iterable[tuple[str, TrialRow]]) -> list[Event]:
    known: dict[int, Candidate] = {}
    events: list[Event] = []
    for kind, row in logged:
        if kind == "ask":
            known[row.number] = (
                replay(stage.space, row.candidate) if stage.sampler else Candidate(row.candidate)
            )
        told = observation(stage, cast("Outcome", row.state), row.values) if kind == "tell" else None
        events.append(Event(row.number, known[row.number], told))
    return events


def _asked_again(sampler: Sampler, events: Sequence[Event]) -> bool:
    for event in events:
        if event.observation is not None:
            sampler.tell(event.number, event.candidate, event.observation)
            continue
        try:
            again = sampler.ask(event.number)
        except SpaceExhausted:
            again = None
        if again != event.candidate:
            log.warning(
                "sampler %r no longer proposes what it proposed before (trial %d: %s, now %s): it, or a "
                "library of its, has another version. The job goes on from the trials' history",
                sampler.name,
                event.number,
                event.candidate.json,
                again.json if again else "nothing",
            )
            return False
    return True
