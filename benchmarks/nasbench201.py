"""Do samplers search as well through Orchestrate as they do by themselves?

Two objectives, accuracy and latency, over NAS-Bench-201's measured table for CIFAR-10. Two questions:

- Does a job (driver, Ray, catalog; one trial at a time) run the very trials that its sampler proposes when
  it is asked and told directly? They are compared one by one.
- Is a sampler of Optuna's, asked and told here, as good as in an Optuna study with the same options?
  Compared is the hypervolume regret: what the trials' front lacks of the table's own. Both axes are scaled
  to [0, 1] over the table, error and latency to be minimised, and the reference point is (1, 1).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from _compare import Difference, compare, holm, quartiles
from _nasbench import POPULATION, SAMPLERS, Measure, Points, alone, job, point, submitted
from _record import Record, Run, Size
from optuna.samplers import BaseSampler, NSGAIIISampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler

from orchestrate.plugins.nasbench.space import EDGES, OPERATIONS, choice
from orchestrate.plugins.nasbench.table import Table, load
from orchestrate.scheduler.settings import Settings

DATASET = "cifar10"
CHECKPOINTS = (50, 100, 200, 400)
JOBS: dict[Size, int] = {"smoke": 1, "default": 3, "full": 10}
LEVEL = 0.05


@dataclass(frozen=True)
class Arm:
    """A sampler here and, where it is Optuna's, the same one there."""

    ours: Mapping[str, Any]
    theirs: Callable[[int], BaseSampler] | None = None


ARMS = {
    "random": Arm(SAMPLERS["random"], lambda seed: RandomSampler(seed=seed)),
    "nsga2": Arm(
        SAMPLERS["nsga2"],
        lambda seed: NSGAIISampler(population_size=POPULATION, seed=seed),
    ),
    "tpe": Arm(
        SAMPLERS["tpe"],
        lambda seed: TPESampler(multivariate=True, constant_liar=True, seed=seed),
    ),
    "evolution": Arm(SAMPLERS["evolution"]),
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


def with_optuna(sampler: BaseSampler, trials: int, table: Table) -> Points:
    """Run a study as Optuna's tutorial does."""

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        return point(
            table, {choice(edge): trial.suggest_categorical(choice(edge), OPERATIONS) for edge in EDGES}
        )

    study = optuna.create_study(sampler=sampler, directions=["minimize", "minimize"])
    study.optimize(objective, n_trials=trials)
    return np.array([trial.values for trial in study.trials])


def measure(
    arms: Mapping[str, Arm], jobs: int, seeds: int, checkpoints: Sequence[int]
) -> dict[str, dict[str, Points]]:
    """What was found, by arm. "ours" and "theirs": regrets, (seeds, checkpoints); "strays": how many of a
    job's trials aren't those that its sampler proposes alone, (jobs,).
    """
    table = load(DATASET)
    score = Measure(table)
    trials = max(checkpoints)
    found: dict[str, dict[str, Points]] = {}
    with tempfile.TemporaryDirectory(prefix="orchestrate-benchmark-") as home:
        settings = Settings(home=Path(home), catalog=None, tracking=None, lineage=False)
        for name, arm in arms.items():
            begun = time.perf_counter()
            ours = [alone(job(arm.ours, seed, trials), table)[0] for seed in range(seeds)]
            middle = time.perf_counter()
            strays = [
                np.count_nonzero((submitted(job(arm.ours, seed, trials), settings) != ours[seed]).any(axis=1))
                for seed in range(min(jobs, seeds))
            ]
            found[name] = {
                "ours": np.array([score.curve(points, checkpoints) for points in ours]),
                "strays": np.array(strays, dtype=np.float64),
            }
            theirs = time.perf_counter()
            if arm.theirs is not None:
                studies = [with_optuna(arm.theirs(seed), trials, table) for seed in range(seeds)]
                curves = [score.curve(points, checkpoints) for points in studies]
                found[name]["theirs"] = np.array(curves)
            parts = (middle - begun, theirs - middle, time.perf_counter() - theirs)
            print(
                f"{name}: {parts[0]:.0f} s here, {parts[1]:.0f} s as jobs, {parts[2]:.0f} s in Optuna",
                flush=True,
            )
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
    records = [_same(name, sides["strays"], max(checkpoints)) for name, sides in found.items()]
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


def _same(name: str, strays: Points, trials: int) -> Record:
    return Record(
        claim=f"{name}: a job runs what its sampler proposes",
        metric=f"other trials, of {trials}",
        value=float(strays.mean()),
        spread=quartiles(strays),
        seeds=len(strays),
        goal="0",
        holds=not strays.any(),
    )


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
        note=f"{test}; p {test.p:.2f}",
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
        note=str(test),
        details={
            "difference": test.mean,
            "interval95": [test.low, test.high],
            "p": test.p,
            "median": float(np.median(ours)),
            "regrets": ours.round(5).tolist(),
        },
    )


def main() -> None:
    run = Run.from_command_line(__file__, __doc__, {"smoke": 2, "default": 60, "full": 400}, tuple(ARMS))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    arms = {name: ARMS[name] for name in run.only or CHOSEN[run.size]}
    checkpoints = (5, 10) if run.size == "smoke" else CHECKPOINTS
    run.publish(as_records(measure(arms, JOBS[run.size], run.seeds, checkpoints), checkpoints))


if __name__ == "__main__":
    main()
