"""Do multi-objective GFlowNets give better and more varied candidates than their peers?

- `grids`, `words`: objectives that cost nothing (HyperGrid 32 x 32; words of six letters, 8 to 12 long).
  `mogfn-pc` is trained on them and then gives 128 candidates for evenly spread preferences. NSGA-III
  (pymoo) gets as many evaluations as the training, and gives its last population of 128; random search
  gives 128 candidates. Compared are hypervolume, R2, and reward and diversity of the ten best for a
  preference. Scores are in [0, 1], reference point 0.
- `cells`: expensive objectives and small budgets. NAS-Bench-201's measured table, accuracy and latency,
  with and without size: hypervolume regret of `mogfn-al` after 50 to 400 trials, beside random search,
  NSGA-II, MOTPE, evolution, and BoTorch's qLogNEHVI and qParEGO. All are samplers of Orchestrate's, asked
  and told over the same table, one trial at a time. The sampler's own seconds a trial are shown, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from multiprocessing import get_context
from typing import Any

import numpy as np
from _compare import compare, quartiles
from _nasbench import Measure, alone, job, resolved
from _record import Record, Run, Size
from numpy.typing import NDArray

from orchestrate.core import Candidate
from orchestrate.core.draw import draw_candidate
from orchestrate.core.indicators import preferences, r2, top_k_diversity, top_k_reward
from orchestrate.core.pareto import hypervolume
from orchestrate.core.sampler import SearchProblem
from orchestrate.core.seeds import generator
from orchestrate.plugins.nasbench.table import load

Floats = NDArray[np.float64]

# Candidates for all preferences ----------------------------------------------------------------------

SERVED = 128
EXACT_SEEDS = 5
PARTS = ("grids", "words", "cells")


@dataclass(frozen=True)
class Exact:
    """A task whose objectives are known for every candidate: a space, and which of its scores count."""

    space: Mapping[str, Any]
    scores: tuple[str, ...]

    @cached_property
    def problem(self) -> SearchProblem:
        """What a sampler is asked to solve."""
        return resolved(exact_job(self, {"name": "random"}, 0)).stages[0].problem


WORDS = {"name": "ngrams", "alphabet": "AVCDEF", "shortest": 8, "longest": 12, "scale": 6}
EXACT: dict[str, dict[str, Exact]] = {
    "grids": {
        "branin, currin": Exact({"name": "hypergrid", "size": 32}, ("branin", "currin")),
        "currin, shubert": Exact({"name": "hypergrid", "size": 32}, ("currin", "shubert")),
        "branin, currin, shubert": Exact({"name": "hypergrid", "size": 32}, ("branin", "currin", "shubert")),
    },
    "words": {
        "AV, VC": Exact({**WORDS, "wanted": ["AV", "VC"]}, ("AV", "VC")),
        "AV, VC, CA": Exact({**WORDS, "wanted": ["AV", "VC", "CA"]}, ("AV", "VC", "CA")),
    },
}
TRAINING: dict[Size, tuple[int, int]] = {"smoke": (3, 16), "default": (1000, 64), "full": (4000, 128)}
"""Training steps, and trajectories in each."""


def served(task: Exact, size: Size, seed: int) -> list[Candidate]:
    """What the trained sampler gives for evenly spread preferences."""
    steps, batch = TRAINING[size]
    gflownet = {"steps": steps, "batch": batch, "beta": {"high": 16}, "replay": 0.0}
    sampler = {"name": "mogfn-pc", "batch": SERVED, "gflownet": gflownet}
    stage = resolved(exact_job(task, sampler, seed)).stages[0]
    assert stage.sampler is not None
    stage.sampler.start(stage.problem)
    return [stage.sampler.ask(number) for number in range(SERVED)]


def exact_job(task: Exact, sampler: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A job file over the task."""
    return {
        "name": "served",
        "space": dict(task.space),
        "objectives": [
            {"name": "synthetic", "score": score, "label": score, "reference": 0.0} for score in task.scores
        ],
        "stages": [
            {"name": "serve", "program": {"name": "synthetic"}, "sampler": dict(sampler), "trials": SERVED}
        ],
        "seed": seed,
    }


def random_draws(task: Exact, size: Size, seed: int) -> list[Candidate]:  # noqa: ARG001 - one signature
    """Random candidates."""
    return [draw_candidate(task.problem.space, generator(seed, number)) for number in range(SERVED)]


def last_population(task: Exact, size: Size, seed: int) -> list[Candidate]:
    """NSGA-III's population after as many evaluations as the GFlowNet's training has trajectories.

    A gene is the place of a choice's value in its list, taken modulo the list's length.
    """
    from pymoo.algorithms.moo.nsga3 import NSGA3
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.operators.crossover.pntx import TwoPointCrossover
    from pymoo.operators.mutation.pm import PolynomialMutation
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    problem, evaluations = task.problem, TRAINING[size][0] * TRAINING[size][1]
    length, width = (2, 32) if task.space["name"] == "hypergrid" else (12, 7)

    def decode(genes: Sequence[int]) -> Candidate:
        left = iter(genes)
        return problem.space.generate(
            lambda choice: choice.values[int(next(left)) % len(choice.values)]  # type: ignore[index,arg-type]
        )

    class Genes(ElementwiseProblem):
        def __init__(self) -> None:
            super().__init__(n_var=length, n_obj=len(task.scores), xl=0, xu=width - 1, vtype=int)

        def _evaluate(self, x: Any, out: Any, *_: Any, **__: Any) -> None:
            candidate = decode(x.tolist())
            out["F"] = [-problem.exact[score](candidate) for score in task.scores]

    algorithm = NSGA3(
        ref_dirs=preferences(len(task.scores)),
        pop_size=SERVED,
        sampling=IntegerRandomSampling(),
        crossover=TwoPointCrossover(),
        mutation=PolynomialMutation(
            prob=1.0, prob_var=1 / length, eta=3.0, vtype=float, repair=RoundingRepair()
        ),
        eliminate_duplicates=True,
    )
    found = minimize(Genes(), algorithm, ("n_eval", max(SERVED, evaluations)), seed=seed)
    return [decode(genes.tolist()) for genes in found.pop.get("X")]


GIVERS: dict[str, Callable[[Exact, Size, int], list[Candidate]]] = {
    "mogfn-pc": served,
    "NSGA-III": last_population,
    "random": random_draws,
}
LARGER_IS_BETTER = {"hypervolume": True, "R2": False, "top-10 reward": True, "top-10 diversity": True}


def judge(task: Exact, candidates: Sequence[Candidate]) -> dict[str, float]:
    """All indicators of a set of candidates."""
    problem = task.problem
    points = [{name: compute(one) for name, compute in problem.exact.items()} for one in candidates]
    qualities = np.array([[point[score] for score in task.scores] for point in points])
    weights = preferences(len(task.scores))
    return {
        "hypervolume": hypervolume(points, problem.goals, [0.0] * len(task.scores)),
        "R2": r2(qualities, weights),
        "top-10 reward": top_k_reward(qualities, weights),
        "top-10 diversity": top_k_diversity(qualities, weights, candidates),
    }


def _served_job(work: tuple[str, str, str, Size, int]) -> dict[str, float]:
    part, task, giver, size, seed = work
    return judge(EXACT[part][task], GIVERS[giver](EXACT[part][task], size, seed))


def exact_records(part: str, size: Size, seeds: int, pool: ProcessPoolExecutor) -> list[Record]:
    """One record a task and indicator."""
    tasks = list(EXACT[part])[:1] if size == "smoke" else list(EXACT[part])
    records: list[Record] = []
    for task in tasks:
        found: dict[str, dict[str, Floats]] = {}
        for giver in GIVERS:
            every = list(pool.map(_served_job, [(part, task, giver, size, seed) for seed in range(seeds)]))
            found[giver] = {name: np.array([one[name] for one in every]) for name in LARGER_IS_BETTER}
        print(f"{part}: {task} done", flush=True)
        records += [_exact_record(f"{part}, {task}", name, found) for name in LARGER_IS_BETTER]
    return records


def _exact_record(task: str, indicator: str, found: Mapping[str, Mapping[str, Floats]]) -> Record:
    ours, peer = found["mogfn-pc"][indicator], found["NSGA-III"][indicator]
    test = compare(ours, peer)
    larger = LARGER_IS_BETTER[indicator]
    return Record(
        claim=f"{task}: mogfn-pc serves better than NSGA-III",
        metric=f"{indicator} ({'larger' if larger else 'smaller'} is better)",
        value=float(ours.mean()),
        spread=quartiles(ours),
        seeds=len(ours),
        peers={name: float(table[indicator].mean()) for name, table in found.items() if name != "mogfn-pc"},
        goal="interval above 0" if larger else "interval below 0",
        holds=test.low > 0 if larger else test.high < 0,
        note=f"difference {test.mean:+.4f} ({test.low:+.4f} to {test.high:+.4f})",
        details={name: table[indicator].round(5).tolist() for name, table in found.items()},
    )


# Small budgets ---------------------------------------------------------------------------------------

PAIR = ("accuracy", "latency")
TRIPLE = (*PAIR, "parameters")
SETTINGS: dict[Size, list[tuple[str, tuple[str, ...]]]] = {
    "smoke": [("cifar10", PAIR)],
    "default": [("cifar10", PAIR), ("cifar10", TRIPLE)],
    "full": [(data, goals) for data in ("cifar10", "cifar100", "imagenet16-120") for goals in (PAIR, TRIPLE)],
}
CHECKPOINTS: dict[Size, tuple[int, ...]] = {
    "smoke": (12, 24),
    "default": (50, 100, 200),
    "full": (50, 100, 200, 400),
}


@dataclass(frozen=True)
class Arm:
    """A sampler, and with how many seeds it is run in each size."""

    sampler: Mapping[str, Any]
    seeds: Mapping[Size, int]
    limit: Mapping[Size, int]
    """Trials at most."""


CHEAP = {"smoke": 2, "default": 20, "full": 20}
COSTLY = {"smoke": 1, "default": 2, "full": 5}
ALL = {"smoke": 24, "default": 200, "full": 400}
SMALL: dict[str, Any] = {"n_startup_trials": 10}
ARMS = {
    "random": Arm({"name": "random"}, CHEAP, ALL),
    "nsga2": Arm({"name": "nsga2", "population_size": 20}, CHEAP, ALL),
    "tpe": Arm({"name": "tpe", "multivariate": True}, CHEAP, ALL),
    "evolution": Arm({"name": "evolution", "population": 20, "tournament": 5}, CHEAP, ALL),
    "mogfn-al": Arm({"name": "mogfn-al"}, {"smoke": 1, "default": 5, "full": 20}, ALL),
    "qparego": Arm({"name": "qparego", **SMALL}, COSTLY, {"smoke": 12, "default": 100, "full": 400}),
    "qnehvi": Arm({"name": "qnehvi", **SMALL}, COSTLY, {"smoke": 12, "default": 100, "full": 400}),
}
REACHED = 0.015
"""Regret to be below after 200 trials, CIFAR-10, accuracy and latency."""


@cache
def _measure(dataset: str, objectives: tuple[str, ...]) -> Measure:
    return Measure(load(dataset), objectives)  # type: ignore[arg-type]


def _cell_job(work: tuple[str, tuple[str, ...], str, Size, int]) -> tuple[list[float], float]:
    """Regrets at the checkpoints that the arm reaches, and seconds a trial."""
    dataset, objectives, name, size, seed = work
    arm = ARMS[name]
    trials = min(arm.limit[size], max(CHECKPOINTS[size]))
    points, seconds = alone(job(arm.sampler, seed, trials, dataset, objectives), load(dataset))  # type: ignore[arg-type]
    reached = [count for count in CHECKPOINTS[size] if count <= trials]
    return _measure(dataset, objectives).curve(points, reached), float(np.mean(seconds))


def cell_records(size: Size, seeds: int, pool: ProcessPoolExecutor) -> list[Record]:
    """Records of each setting and checkpoint, of the mean over all, and of the samplers' own time."""
    found: dict[tuple[str, tuple[str, ...], int], dict[str, Floats]] = {}
    times: dict[str, list[float]] = {name: [] for name in ARMS}
    for dataset, objectives in SETTINGS[size]:
        for name, arm in ARMS.items():
            count = min(arm.seeds[size], seeds)
            work = [(dataset, objectives, name, size, seed) for seed in range(count)]
            every = list(pool.map(_cell_job, work))
            times[name] += [seconds for _, seconds in every]
            for index, trials in enumerate(CHECKPOINTS[size][: len(every[0][0])]):
                table = found.setdefault((dataset, objectives, trials), {})
                table[name] = np.array([curve[index] for curve, _ in every])
            print(f"cells: {dataset}, {len(objectives)} objectives: {name} done", flush=True)
    records = [_cell_record(key, table) for key, table in found.items()]
    records.append(_goal_record(found, size))
    return [*records, _time_record(times)]


def _cell_record(key: tuple[str, tuple[str, ...], int], table: Mapping[str, Floats]) -> Record:
    dataset, objectives, trials = key
    peers = {name: float(values.mean()) for name, values in table.items() if name != "mogfn-al"}
    best = min(peers, key=peers.__getitem__)
    ours = table["mogfn-al"]
    test = compare(ours, table[best])
    return Record(
        claim=f"{dataset}, {' and '.join(objectives)}, {trials} trials: mogfn-al better than the best peer",
        metric="hypervolume regret",
        value=float(ours.mean()),
        spread=quartiles(ours),
        seeds=len(ours),
        peers=peers,
        goal="interval below 0",
        holds=test.high < 0,
        note=f"best peer {best} (n = {len(table[best])}); difference {test.mean:+.4f} "
        f"({test.low:+.4f} to {test.high:+.4f})",
        details={name: values.round(5).tolist() for name, values in table.items()},
    )


def _goal_record(
    found: Mapping[tuple[str, tuple[str, ...], int], Mapping[str, Floats]], size: Size
) -> Record:
    trials = max(CHECKPOINTS[size]) if size == "smoke" else 200
    ours = found["cifar10", PAIR, trials]["mogfn-al"]
    return Record(
        claim=f"cifar10, accuracy and latency, {trials} trials: mogfn-al below {REACHED}",
        metric="hypervolume regret",
        value=float(ours.mean()),
        spread=quartiles(ours),
        seeds=len(ours),
        goal=f"below {REACHED}",
        holds=float(ours.mean()) < REACHED,
    )


def _time_record(times: Mapping[str, Sequence[float]]) -> Record:
    ours = times["mogfn-al"]
    return Record(
        claim="mogfn-al: own time a trial, amortised",
        metric="seconds",
        value=float(np.mean(ours)),
        spread=quartiles(ours),
        seeds=len(ours),
        peers={name: float(np.mean(seconds)) for name, seconds in times.items() if name != "mogfn-al"},
        goal="below 0.5",
        holds=float(np.mean(ours)) < 0.5,
    )


def main() -> None:
    run = Run.from_command_line(__file__, __doc__, {"smoke": 2, "default": 20, "full": 20}, PARTS)
    for threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[threads] = "1"  # for the pool's processes: one a core is the faster way
    records: list[Record] = []
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn")) as pool:
        for part in run.only or PARTS:
            if part == "cells":
                records += cell_records(run.size, run.seeds, pool)
            else:
                records += exact_records(part, run.size, min(EXACT_SEEDS, run.seeds), pool)
    run.publish(records)


if __name__ == "__main__":
    main()
