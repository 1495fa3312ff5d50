"""Expensive objectives and small budgets: does `mogfn-al` find a front sooner than its peers?

NAS-Bench-201's measured table, accuracy and latency, with --full also size and three data sets: hypervolume
regret of `mogfn-al` after 50 to 400 trials, beside random search, NSGA-II, MOTPE, evolution, and BoTorch's
qLogNEHVI and qParEGO. All are samplers of Orchestrate's, asked and told over the same table, one trial at
a time. The sampler's own seconds a trial are shown, too.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from _compare import compare, quartiles
from _nasbench import PAIR, SAMPLERS, Measure, alone, job
from _record import Mapper, Record, Run, Size, each_core
from numpy.typing import NDArray

from orchestrate.plugins.nasbench.table import load

Floats = NDArray[np.float64]

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
    "mogfn-al": Arm({"name": "mogfn-al"}, {"smoke": 1, "default": 5, "full": 20}, ALL),
    "qparego": Arm({"name": "qparego"}, COSTLY, FEW),
    "qnehvi": Arm({"name": "qnehvi"}, COSTLY, FEW),
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


def cell_records(size: Size, seeds: int, spread: Mapper) -> list[Record]:
    """Records of each setting and checkpoint, of the mean over all, and of the samplers' own time."""
    found: dict[tuple[str, tuple[str, ...], int], dict[str, Floats]] = {}
    times: dict[str, list[float]] = {name: [] for name in ARMS}
    for dataset, objectives in SETTINGS[size]:
        for name, arm in ARMS.items():
            begun = time.perf_counter()
            count = min(arm.seeds[size], seeds)
            every = list(
                spread(_cell_job, [(dataset, objectives, name, size, seed) for seed in range(count)])
            )
            times[name] += [seconds for _, seconds in every]
            for index, trials in enumerate(CHECKPOINTS[size][: len(every[0][0])]):
                table = found.setdefault((dataset, objectives, trials), {})
                table[name] = np.array([curve[index] for curve, _ in every])
            took = time.perf_counter() - begun
            print(f"{dataset}, {len(objectives)} objectives, {name}: {took:.0f} s", flush=True)
    records = [_cell_record(key, table) for key, table in found.items()]
    records.append(_mean_record(found))
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
        note=f"best peer {best} (n = {len(table[best])}); {test}",
        details={name: values.round(5).tolist() for name, values in table.items()},
    )


def _mean_record(found: Mapping[tuple[str, tuple[str, ...], int], Mapping[str, Floats]]) -> Record:
    """The mean over all settings and budgets that a sampler was run in; compared in those it shares."""

    def over(name: str, keys: Iterable[tuple[str, tuple[str, ...], int]]) -> float:
        return float(np.mean([found[key][name].mean() for key in keys]))

    peers = [name for name in ARMS if name != "mogfn-al"]
    shared = {name: [key for key, table in found.items() if name in table] for name in peers}
    gains = {name: over("mogfn-al", keys) - over(name, keys) for name, keys in shared.items()}
    closest = max(gains, key=gains.__getitem__)
    budgets = ", ".join(str(count) for count in sorted({key[2] for key in shared[closest]}))
    each = np.mean([table["mogfn-al"] for table in found.values()], axis=0).tolist()
    return Record(
        claim="mean over settings and budgets: mogfn-al better than every peer",
        metric="hypervolume regret",
        value=over("mogfn-al", found),
        spread=quartiles(each),
        seeds=len(each),
        peers={name: over(name, keys) for name, keys in shared.items()},
        goal="below each peer's where both were run",
        holds=max(gains.values()) < 0,
        note=f"closest {closest}: difference {gains[closest]:+.4f} at {budgets} trials",
        details={"differences": gains},
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
    run = Run.from_command_line(__file__, __doc__, {"smoke": 2, "default": 20, "full": 20})
    with each_core() as spread:
        run.publish(cell_records(run.size, run.seeds, spread))


if __name__ == "__main__":
    main()
