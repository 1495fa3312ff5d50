"""NAS-Bench-201's table as a problem for samplers, and two ways to run one over it: as a job, or alone."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import moocore
import numpy as np
import yaml
from numpy.typing import NDArray

from orchestrate.core import Job, Observation, enumerate_candidates, resolve
from orchestrate.core.registry import Registry
from orchestrate.plugins.nasbench.space import NasBench201
from orchestrate.plugins.nasbench.table import Table, parameters
from orchestrate.scheduler.driver import submit
from orchestrate.scheduler.settings import Settings
from orchestrate.storage.catalog import Catalog

Points = NDArray[np.float64]  # (trials, objectives): what is to be minimised, in order

DIRECTIONS = {"accuracy": "maximize", "latency": "minimize", "parameters": "minimize"}
PAIR = ("accuracy", "latency")
POPULATION = 20
SAMPLERS: dict[str, dict[str, Any]] = {
    "random": {"name": "random"},
    "nsga2": {"name": "nsga2", "population_size": POPULATION},
    "tpe": {"name": "tpe", "multivariate": True},
    "evolution": {"name": "evolution", "population": POPULATION, "tournament": 5},
}
"""The peers that cost next to nothing, with options for some hundred trials."""


def values(table: Table, candidate: Mapping[str, Any], objectives: Sequence[str] = PAIR) -> dict[str, float]:
    """A cell's objectives: mean validation accuracy, latency in seconds, number of parameters."""
    record = table[candidate]
    known = {
        "accuracy": lambda: sum(record.accuracies) / len(record.accuracies),
        "latency": lambda: record.latency,
        "parameters": lambda: float(parameters(candidate, table.dataset)),
    }
    return {name: known[name]() for name in objectives}


def as_point(found: Mapping[str, float]) -> tuple[float, ...]:
    """Objectives as numbers to be minimised: the error instead of the accuracy."""
    return tuple(1 - value if name == "accuracy" else value for name, value in found.items())


def point(table: Table, candidate: Mapping[str, Any], objectives: Sequence[str] = PAIR) -> tuple[float, ...]:
    """A cell's objectives, to be minimised."""
    return as_point(values(table, candidate, objectives))


class Measure:
    """Hypervolume regret against the table's front: each axis scaled to [0, 1], reference (1, …, 1)."""

    def __init__(self, table: Table, objectives: Sequence[str] = PAIR) -> None:
        candidates = enumerate_candidates(NasBench201())
        everything = np.array([point(table, candidate, objectives) for candidate in candidates])
        self._low = everything.min(axis=0)
        self._range = everything.max(axis=0) - self._low
        self.best = self._volume(everything)

    def regret(self, points: Points) -> float:
        """What the front of `points` lacks: 0 when it is the table's."""
        return self.best - self._volume(points)

    def curve(self, points: Points, checkpoints: Sequence[int]) -> list[float]:
        """The regret after so many trials."""
        return [self.regret(points[:count]) for count in checkpoints]

    def _volume(self, points: Points) -> float:
        scaled = (points - self._low) / self._range
        return float(moocore.hypervolume(scaled, ref=np.ones(points.shape[1])))


def job(
    sampler: Mapping[str, Any],
    seed: int,
    trials: int,
    dataset: str = "cifar10",
    objectives: Sequence[str] = PAIR,
) -> dict[str, Any]:
    """A job file that runs the sampler over the table."""
    return {
        "name": f"nasbench201-{sampler['name']}",
        "space": {"name": "nasbench201"},
        "objectives": [{"metric": name, "direction": DIRECTIONS[name]} for name in objectives],
        "stages": [
            {
                "name": "search",
                "program": {"name": "tabular", "dataset": dataset},
                "sampler": dict(sampler),
                "trials": trials,
                "batch": 1,  # one trial at a time, as Optuna's own loop
                "concurrency": 1,
            }
        ],
        "seed": seed,
    }


def submitted(data: Mapping[str, Any], settings: Settings) -> Points:
    """Submit the job, as the command line does, and read its trials back from the catalog."""
    outcome = submit(resolved(data), yaml.safe_dump(dict(data)), settings)
    with Catalog.open(settings.catalog_url) as catalog:
        rows = catalog.trials(outcome.job_id)
    assert (outcome.state, len(rows)) == ("finished", data["stages"][0]["trials"]), outcome
    names = [objective["metric"] for objective in data["objectives"]]
    return np.array([as_point({name: row.values[name] for name in names}) for row in rows])


def alone(data: Mapping[str, Any], table: Table) -> tuple[Points, list[float]]:
    """Ask and tell the job's sampler directly, without Ray or a catalog: points, and CPU seconds a trial."""
    stage = resolved(data).stages[0]
    sampler, problem = stage.sampler, stage.problem
    assert sampler is not None
    assert problem.budget is not None
    sampler.start(problem)
    names = [goal.name for goal in problem.goals]
    points: list[tuple[float, ...]] = []
    seconds: list[float] = []
    for number in range(problem.budget):
        begun = time.process_time()
        candidate = sampler.ask(number)
        asked = time.process_time()
        found = values(table, candidate, names)
        points.append(as_point(found))
        told = time.process_time()
        sampler.tell(number, candidate, Observation("finished", found))
        seconds.append(asked - begun + time.process_time() - told)
    return np.array(points), seconds


def resolved(data: Mapping[str, Any]) -> Job:
    """The checked job of a job file's data."""
    return resolve(data, _registry())


@cache
def _registry() -> Registry:
    return Registry.discover()
