"""Expensive objectives and small budgets: does `mogfn-al` find a front sooner than its peers?

NAS-Bench-201's measured tables of three data sets; accuracy and latency (`pair`), and size too (`triple`):
hypervolume regret of `mogfn-al` after 50 to 200 trials, beside random search, NSGA-II, MOTPE and evolution,
and in the first setting beside BoTorch's qLogNEHVI and qParEGO, and with a model like theirs
(`mogfn-al-gp`). --full has 400 trials, and with BoTorch 200, qParEGO in all pairs. `--only` takes samplers
and settings, each all where none is named. All are samplers of Orchestrate's, asked and told over the same
table, one trial at a time. The sampler's own CPU seconds a trial are shown, too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from _compare import Difference, compare, quartiles
from _nasbench import PAIR, SAMPLERS, Measure, alone, job
from _record import Mapper, Record, Run, Size, each_core
from numpy.typing import NDArray

from orchestrate.plugins.nasbench.table import load

Floats = NDArray[np.float64]
Key: TypeAlias = tuple[str, int]
"""A setting, and a number of trials."""
Found: TypeAlias = dict[Key, dict[str, Floats]]
"""Regrets of each arm's seeds."""

OURS = "mogfn-al"
WITH_GP = "mogfn-al-gp"
"""The same with Gaussian processes for its model; shown, but no peer."""

GOALS = {"pair": PAIR, "triple": (*PAIR, "parameters")}
SETTINGS = {
    f"{data}-{name}": (data, goals)
    for data in ("cifar10", "cifar100", "imagenet16-120")
    for name, goals in GOALS.items()
}
FIRST = ("cifar10-pair",)
CHECKPOINTS: dict[Size, tuple[int, ...]] = {
    "smoke": (12, 14),
    "default": (50, 100, 200),
    "full": (50, 100, 200, 400),
}


@dataclass(frozen=True)
class Arm:
    """A sampler, and in each size with how many seeds, how many trials and where it is run."""

    sampler: Mapping[str, Any]
    seeds: Mapping[Size, int]
    trials: Mapping[Size, int]
    settings: Mapping[Size, Sequence[str]]


ALL: dict[Size, int] = {"smoke": 14, "default": 200, "full": 400}
FEW: dict[Size, int] = {"smoke": 12, "default": 100, "full": 200}
EVERYWHERE: dict[Size, Sequence[str]] = {"smoke": FIRST, "default": [*SETTINGS], "full": [*SETTINGS]}
ONCE: dict[Size, Sequence[str]] = dict.fromkeys(("smoke", "default", "full"), FIRST)
PAIRS: dict[Size, Sequence[str]] = {**ONCE, "full": [name for name in SETTINGS if name.endswith("-pair")]}
CHEAP: dict[Size, int] = {"smoke": 2, "default": 20, "full": 20}
COSTLY: dict[Size, int] = {"smoke": 1, "default": 5, "full": 5}
DEAREST: dict[Size, int] = {"smoke": 1, "default": 2, "full": 5}
ARMS = {
    **{name: Arm(sampler, CHEAP, ALL, EVERYWHERE) for name, sampler in SAMPLERS.items()},
    OURS: Arm({"name": "mogfn-al"}, COSTLY, ALL, EVERYWHERE),
    "qparego": Arm({"name": "qparego"}, DEAREST, FEW, PAIRS),
    "qnehvi": Arm({"name": "qnehvi"}, DEAREST, FEW, ONCE),
    WITH_GP: Arm({"name": "mogfn-al", "surrogate": "gp"}, DEAREST, FEW, ONCE),
}
REACHED = 0.015
"""Regret to be below after 200 trials, CIFAR-10, accuracy and latency."""


@cache
def _measure(dataset: str, objectives: tuple[str, ...]) -> Measure:
    return Measure(load(dataset), objectives)  # type: ignore[arg-type]


def _cell_job(work: tuple[str, str, Size, int]) -> tuple[list[float], float]:
    """Regrets at the checkpoints that the arm reaches, and CPU seconds a trial."""
    setting, name, size, seed = work
    dataset, objectives = SETTINGS[setting]
    arm = ARMS[name]
    trials = arm.trials[size]
    points, seconds = alone(job(arm.sampler, seed, trials, dataset, objectives), load(dataset))  # type: ignore[arg-type]
    reached = [count for count in CHECKPOINTS[size] if count <= trials]
    return _measure(dataset, objectives).curve(points, reached), float(np.mean(seconds))


def compared(only: Sequence[str], size: Size, seeds: int, spread: Mapper) -> Iterator[list[Record]]:
    """Run the arms one after the other, in their settings; after each, give all records so far."""
    found: Found = {}
    times: dict[str, list[float]] = {}
    named = [setting for setting in SETTINGS if setting in only]
    for name in [arm for arm in ARMS if arm in only] or ARMS:
        arm = ARMS[name]
        for setting in named or arm.settings[size]:
            begun = time.perf_counter()
            work = [(setting, name, size, seed) for seed in range(min(arm.seeds[size], seeds))]
            every = list(spread(_cell_job, work))
            times.setdefault(name, []).extend(seconds for _, seconds in every)
            for index, trials in enumerate(CHECKPOINTS[size][: len(every[0][0])]):
                table = found.setdefault((setting, trials), {})
                table[name] = np.array([curve[index] for curve, _ in every])
            print(f"{name}, {setting}: {time.perf_counter() - begun:.0f} s", flush=True)
        if OURS in times and times.keys() - {OURS, WITH_GP}:
            records = [_cell_record(key, table) for key, table in found.items()]
            yield [*records, _mean_record(found), *_goal_records(found, size), _time_record(times)]


def _cell_record(key: Key, table: Mapping[str, Floats]) -> Record:
    setting, trials = key
    peers = {name: float(values.mean()) for name, values in table.items() if name != OURS}
    best = min(peers.keys() - {WITH_GP}, key=peers.__getitem__)
    ours = table[OURS]
    test = compare(ours, table[best])
    return Record(
        claim=f"{setting}, {trials} trials: mogfn-al better than the best peer",
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

    def over(name: str, keys: Sequence[Key]) -> Floats:
        """Each seed's mean."""
        return np.mean([found[key][name] for key in keys], axis=0)

    keys = [key for key, table in found.items() if OURS in table]
    peers = dict.fromkeys(name for key in keys for name in found[key] if name not in (OURS, WITH_GP))
    shared = {name: [key for key in keys if name in found[key]] for name in peers}
    tests: dict[str, Difference] = {
        name: compare(over(OURS, both), over(name, both)) for name, both in shared.items()
    }
    closest = max(tests, key=lambda name: tests[name].high)
    ours = over(OURS, keys)
    return Record(
        claim="mean over settings and budgets: mogfn-al better than every peer",
        metric="hypervolume regret",
        value=float(ours.mean()),
        spread=quartiles(ours.tolist()),
        seeds=len(ours),
        peers={name: float(over(name, both).mean()) for name, both in shared.items()},
        goal="intervals below 0, each where both were run",
        holds=max(test.high for test in tests.values()) < 0,
        note=f"closest {closest}: {tests[closest]}, {_extent(shared[closest])}",
        details={"differences": {name: str(test) for name, test in tests.items()}},
    )


def _extent(keys: Sequence[Key]) -> str:
    """Say in which settings and after how many trials."""
    settings = dict.fromkeys(setting for setting, _ in keys)
    where = f"{len(settings)} settings" if len(settings) > 1 else next(iter(settings))
    return f"{where}, {', '.join(str(count) for count in sorted({count for _, count in keys}))} trials"


def _goal_records(found: Found, size: Size) -> list[Record]:
    key = FIRST[0], max(CHECKPOINTS[size]) if size == "smoke" else 200
    if key not in found:
        return []
    ours = found[key][OURS]
    return [
        Record(
            claim=f"{key[0]}, {key[1]} trials: mogfn-al below {REACHED}",
            metric="hypervolume regret",
            value=float(ours.mean()),
            spread=quartiles(ours),
            seeds=len(ours),
            goal=f"below {REACHED}",
            holds=float(ours.mean()) < REACHED,
        )
    ]


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
    run = Run.from_command_line(
        __file__, __doc__, {"smoke": 2, "default": 20, "full": 20}, (*ARMS, *SETTINGS)
    )
    records: list[Record] = []
    with each_core(run) as spread:
        for records in compared(run.only, run.size, run.seeds, spread):
            run.write(records)  # what is interrupted leaves what it found
    run.show(records)


if __name__ == "__main__":
    main()
