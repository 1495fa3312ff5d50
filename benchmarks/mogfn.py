"""Expensive objectives and small budgets: does `mogfn-al` find a front sooner than its peers?

NAS-Bench-201's measured table, accuracy and latency, with --full also size and three data sets: hypervolume
regret of `mogfn-al` after 50 to 400 trials, beside random search, NSGA-II, MOTPE, evolution, and BoTorch's
qLogNEHVI and qParEGO. All are samplers of Orchestrate's, asked and told over the same table, one trial at
a time. The sampler's own CPU seconds a trial are shown, too.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from _compare import compare, quartiles
from _nasbench import PAIR, SAMPLERS, Measure, alone, job
from _record import Mapper, Record, Run, Size, each_core
from numpy.typing import NDArray

from orchestrate.plugins.nasbench.table import load

Floats = NDArray[np.float64]
Found: TypeAlias = dict[tuple[str, tuple[str, ...], int], dict[str, Floats]]
"""Regrets of each arm's seeds, by data set, objectives and trials."""

OURS = "mogfn-al"

TRIPLE = (*PAIR, "parameters")
SETTINGS: dict[Size, list[tuple[str, tuple[str, ...]]]] = {
    "smoke": [("cifar10", PAIR)],
    "default": [("cifar10", PAIR)],
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
FEW = {"smoke": 12, "default": 100, "full": 400}
ARMS = {
    **{name: Arm(sampler, CHEAP, ALL) for name, sampler in SAMPLERS.items()},
    OURS: Arm({"name": "mogfn-al"}, {"smoke": 1, "default": 5, "full": 20}, ALL),
    "qparego": Arm({"name": "qparego"}, COSTLY, FEW),
    "qnehvi": Arm({"name": "qnehvi"}, COSTLY, FEW),
}
REACHED = 0.015
"""Regret to be below after 200 trials, CIFAR-10, accuracy and latency."""


@cache
def _measure(dataset: str, objectives: tuple[str, ...]) -> Measure:
    return Measure(load(dataset), objectives)  # type: ignore[arg-type]


def _cell_job(work: tuple[str, tuple[str, ...], str, Size, int]) -> tuple[list[float], float]:
    """Regrets at the checkpoints that the arm reaches, and CPU seconds a trial."""
    dataset, objectives, name, size, seed = work
    arm = ARMS[name]
    trials = min(arm.limit[size], max(CHECKPOINTS[size]))
    points, seconds = alone(job(arm.sampler, seed, trials, dataset, objectives), load(dataset))  # type: ignore[arg-type]
    reached = [count for count in CHECKPOINTS[size] if count <= trials]
    return _measure(dataset, objectives).curve(points, reached), float(np.mean(seconds))


def compared(arms: Sequence[str], size: Size, seeds: int, spread: Mapper) -> Iterator[list[Record]]:
    """Run the arms one after the other; after each, give all records so far."""
    found: Found = {}
    times: dict[str, list[float]] = {}
    for name in arms:
        arm = ARMS[name]
        for dataset, objectives in SETTINGS[size]:
            begun = time.perf_counter()
            count = min(arm.seeds[size], seeds)
            work = [(dataset, objectives, name, size, seed) for seed in range(count)]
            every = list(spread(_cell_job, work))
            times.setdefault(name, []).extend(seconds for _, seconds in every)
            for index, trials in enumerate(CHECKPOINTS[size][: len(every[0][0])]):
                table = found.setdefault((dataset, objectives, trials), {})
                table[name] = np.array([curve[index] for curve, _ in every])
            took = time.perf_counter() - begun
            print(f"{name}, {dataset}, {len(objectives)} objectives: {took:.0f} s", flush=True)
        if OURS in times and len(times) > 1:
            records = [_cell_record(key, table) for key, table in found.items()]
            yield [*records, _mean_record(found), _goal_record(found, size), _time_record(times)]


def _cell_record(key: tuple[str, tuple[str, ...], int], table: Mapping[str, Floats]) -> Record:
    dataset, objectives, trials = key
    peers = {name: float(values.mean()) for name, values in table.items() if name != OURS}
    best = min(peers, key=peers.__getitem__)
    ours = table[OURS]
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
        note=f"best peer {best} (n = {len(table[best])}); {test}",
        details={name: values.round(5).tolist() for name, values in table.items()},
    )


def _mean_record(found: Found) -> Record:
    """The mean over all settings and budgets that a sampler was run in; compared in those it shares."""

    def over(name: str, keys: Iterable[tuple[str, tuple[str, ...], int]]) -> float:
        return float(np.mean([found[key][name].mean() for key in keys]))

    peers = dict.fromkeys(name for table in found.values() for name in table if name != OURS)
    shared = {name: [key for key, table in found.items() if name in table] for name in peers}
    gains = {name: over(OURS, keys) - over(name, keys) for name, keys in shared.items()}
    closest = max(gains, key=gains.__getitem__)
    budgets = ", ".join(str(count) for count in sorted({key[2] for key in shared[closest]}))
    each = np.mean([table[OURS] for table in found.values()], axis=0).tolist()
    return Record(
        claim="mean over settings and budgets: mogfn-al better than every peer",
        metric="hypervolume regret",
        value=over(OURS, found),
        spread=quartiles(each),
        seeds=len(each),
        peers={name: over(name, keys) for name, keys in shared.items()},
        goal="below each peer's where both were run",
        holds=max(gains.values()) < 0,
        note=f"closest {closest}: difference {gains[closest]:+.4f} at {budgets} trials",
        details={"differences": gains},
    )


def _goal_record(found: Found, size: Size) -> Record:
    trials = max(CHECKPOINTS[size]) if size == "smoke" else 200
    ours = found["cifar10", PAIR, trials][OURS]
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
    ours = times[OURS]
    return Record(
        claim="mogfn-al: own time a trial, amortised",
        metric="CPU seconds",
        value=float(np.mean(ours)),
        spread=quartiles(ours),
        seeds=len(ours),
        peers={name: float(np.mean(seconds)) for name, seconds in times.items() if name != OURS},
        goal="below 0.5",
        holds=float(np.mean(ours)) < 0.5,
    )


def main() -> None:
    run = Run.from_command_line(__file__, __doc__, {"smoke": 2, "default": 20, "full": 20}, tuple(ARMS))
    records: list[Record] = []
    arms = [name for name in ARMS if name in (run.only or ARMS)]
    with each_core(run.keep) as spread:
        for records in compared(arms, run.size, run.seeds, spread):
            run.write(records)  # what is interrupted leaves what it found
    run.show(records)


if __name__ == "__main__":
    main()
