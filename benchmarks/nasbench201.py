"""Do samplers search as well through Orchestrate as they do by themselves?

Two objectives, accuracy and latency, over NAS-Bench-201's measured table for CIFAR-10: each sampler runs
as a job (driver, Ray, catalog; one trial at a time) and, if it is one of Optuna's, directly in an Optuna
study with the same options. Compared is the hypervolume regret: what the trials' front lacks of the
table's own. Both axes are scaled to [0, 1] over the table, error and latency to be minimised, and the
reference point is (1, 1).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import optuna
import yaml
from _compare import Difference, compare, holm, quartiles
from _record import Record, Run
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, NSGAIIISampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler

from orchestrate.core import enumerate_candidates, resolve
from orchestrate.core.registry import Registry
from orchestrate.plugins.nasbench.space import EDGES, OPERATIONS, NasBench201, choice
from orchestrate.plugins.nasbench.table import Table, load
from orchestrate.scheduler.driver import submit
from orchestrate.scheduler.settings import Settings
from orchestrate.storage.catalog import Catalog

DATASET = "cifar10"
CHECKPOINTS = (50, 100, 200, 400)
POPULATION = 20
LEVEL = 0.05

Points = NDArray[np.float64]  # (trials, 2): error and latency, in order


@dataclass(frozen=True)
class Arm:
    """A sampler here and, where it is Optuna's, the same one there."""

    ours: Mapping[str, Any]
    theirs: Callable[[int], BaseSampler] | None = None


ARMS = {
    "random": Arm({"name": "random"}, lambda seed: RandomSampler(seed=seed)),
    "nsga2": Arm(
        {"name": "nsga2", "population_size": POPULATION},
        lambda seed: NSGAIISampler(population_size=POPULATION, seed=seed),
    ),
    "tpe": Arm(
        {"name": "tpe", "multivariate": True},
        lambda seed: TPESampler(multivariate=True, constant_liar=True, seed=seed),
    ),
    "evolution": Arm({"name": "evolution", "population": POPULATION, "tournament": 5}),
    "tpe-independent": Arm(
        {"name": "tpe", "multivariate": False},
        lambda seed: TPESampler(multivariate=False, constant_liar=True, seed=seed),
    ),
    "nsga3": Arm(
        {"name": "nsga3", "population_size": POPULATION},
        lambda seed: NSGAIIISampler(population_size=POPULATION, seed=seed),
    ),
    "qmc": Arm(
        {"name": "qmc", "scramble": True},
        lambda seed: QMCSampler(scramble=True, warn_independent_sampling=False, seed=seed),
    ),
}

CHOSEN = {"smoke": ("random", "evolution"), "default": tuple(ARMS)[:4], "full": tuple(ARMS)}


class Measure:
    """Hypervolume regret against the table's front."""

    def __init__(self, table: Table) -> None:
        everything = np.array([point(table, candidate) for candidate in enumerate_candidates(NasBench201())])
        self._low = everything.min(axis=0)
        self._range = everything.max(axis=0) - self._low
        self.best = self._volume(everything)

    def regret(self, points: Points) -> float:
        """What the front of `points` lacks: 0 when it is the table's."""
        return self.best - self._volume(points)

    def _volume(self, points: Points) -> float:
        return float(moocore.hypervolume((points - self._low) / self._range, ref=np.ones(2)))


def point(table: Table, candidate: Mapping[str, Any]) -> tuple[float, float]:
    """Mean validation error, and latency in seconds."""
    record = table[candidate]
    return 1 - sum(record.accuracies) / len(record.accuracies), record.latency


def through_orchestrate(sampler: Mapping[str, Any], seed: int, trials: int, settings: Settings) -> Points:
    """Submit a job, as the command line does, and read its trials back from the catalog."""
    data: dict[str, Any] = {
        "name": f"nasbench201-{sampler['name']}",
        "space": {"name": "nasbench201"},
        "objectives": [
            {"metric": "accuracy", "direction": "maximize"},
            {"metric": "latency", "direction": "minimize"},
        ],
        "stages": [
            {
                "name": "search",
                "program": {"name": "tabular", "dataset": DATASET},
                "sampler": dict(sampler),
                "trials": trials,
                "batch": 1,  # one trial at a time, as Optuna's own loop
                "concurrency": 1,
            }
        ],
        "seed": seed,
    }
    outcome = submit(resolve(data, Registry.discover()), yaml.safe_dump(data), settings)
    with Catalog.open(settings.catalog_url) as catalog:
        rows = catalog.trials(outcome.job_id)
    assert (outcome.state, len(rows)) == ("finished", trials), outcome
    return np.array([(1 - row.values["accuracy"], row.values["latency"]) for row in rows])


def with_optuna(sampler: BaseSampler, trials: int, table: Table) -> Points:
    """Run a study as Optuna's tutorial does."""

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        return point(
            table, {choice(edge): trial.suggest_categorical(choice(edge), OPERATIONS) for edge in EDGES}
        )

    study = optuna.create_study(sampler=sampler, directions=["minimize", "minimize"])
    study.optimize(objective, n_trials=trials)
    return np.array([trial.values for trial in study.trials])


def measure(arms: Mapping[str, Arm], seeds: int, checkpoints: Sequence[int]) -> dict[str, dict[str, Points]]:
    """Regrets by arm and side ("ours", "theirs"): arrays of shape (seeds, checkpoints)."""
    table = load(DATASET)
    score = Measure(table)
    trials = max(checkpoints)

    def curve(points: Points) -> list[float]:
        return [score.regret(points[:count]) for count in checkpoints]

    found: dict[str, dict[str, Points]] = {}
    with tempfile.TemporaryDirectory(prefix="orchestrate-benchmark-") as home:
        settings = Settings(home=Path(home), catalog=None, tracking=None, lineage=False)
        for name, arm in arms.items():
            begun = time.perf_counter()
            ours = [curve(through_orchestrate(arm.ours, seed, trials, settings)) for seed in range(seeds)]
            middle = time.perf_counter()
            found[name] = {"ours": np.array(ours)}
            if arm.theirs is not None:
                theirs = [curve(with_optuna(arm.theirs(seed), trials, table)) for seed in range(seeds)]
                found[name]["theirs"] = np.array(theirs)
            ended = time.perf_counter()
            print(f"{name}: {middle - begun:.0f} s here, {ended - middle:.0f} s in Optuna", flush=True)
    return found


def as_records(found: Mapping[str, Mapping[str, Points]], checkpoints: Sequence[int]) -> list[Record]:
    """One record an arm and checkpoint."""
    pairs = [
        (name, index)
        for name, sides in found.items()
        if "theirs" in sides
        for index in range(len(checkpoints))
    ]
    tests = {
        (name, index): compare(found[name]["ours"][:, index], found[name]["theirs"][:, index])
        for name, index in pairs
    }
    adjusted = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    records: list[Record] = []
    for name, sides in found.items():
        for index, trials in enumerate(checkpoints):
            ours = sides["ours"][:, index]
            if (name, index) in tests:
                records.append(
                    _agreement(
                        name,
                        trials,
                        ours,
                        sides["theirs"][:, index],
                        tests[name, index],
                        adjusted[name, index],
                    )
                )
            elif "theirs" in found.get("random", {}):
                records.append(_beats(name, trials, ours, found["random"]["theirs"][:, index]))
    return records


def _agreement(
    name: str, trials: int, ours: Points, theirs: Points, test: Difference, adjusted: float
) -> Record:
    return Record(
        claim=f"{name}, {trials} trials: as good as Optuna's own",
        metric="hypervolume regret",
        value=float(ours.mean()),
        spread=quartiles(ours),
        seeds=len(ours),
        peers={"Optuna": float(theirs.mean())},
        goal=f"Holm's p at least {LEVEL:g}",
        holds=adjusted >= LEVEL,
        note=f"{_interval(test)}; p {test.p:.2f}",
        details={
            "difference": test.mean,
            "interval95": [test.low, test.high],
            "p": test.p,
            "p_adjusted": adjusted,
            "median": float(np.median(ours)),
            "median_of_optuna": float(np.median(theirs)),
            "quartiles_of_optuna": quartiles(theirs),
            "regrets": ours.round(5).tolist(),
            "regrets_of_optuna": theirs.round(5).tolist(),
        },
    )


def _beats(name: str, trials: int, ours: Points, random: Points) -> Record:
    test = compare(ours, random)
    return Record(
        claim=f"{name}, {trials} trials: better than random",
        metric="hypervolume regret",
        value=float(ours.mean()),
        spread=quartiles(ours),
        seeds=len(ours),
        peers={"Optuna's random": float(random.mean())},
        goal="interval below 0",
        holds=test.high < 0,
        note=_interval(test),
        details={
            "difference": test.mean,
            "interval95": [test.low, test.high],
            "p": test.p,
            "median": float(np.median(ours)),
            "regrets": ours.round(5).tolist(),
        },
    )


def _interval(test: Difference) -> str:
    return f"difference {test.mean:+.4f} ({test.low:+.4f} to {test.high:+.4f})"


def main() -> None:
    run = Run.from_command_line(__file__, __doc__, {"smoke": 2, "default": 30, "full": 100}, tuple(ARMS))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    arms = {name: ARMS[name] for name in run.only or CHOSEN[run.size]}
    checkpoints = (5, 10) if run.size == "smoke" else CHECKPOINTS
    run.publish(as_records(measure(arms, run.seeds, checkpoints), checkpoints))


if __name__ == "__main__":
    main()
