"""A front from a Once-for-All supernet: accuracy against multiply-accumulates, after 300 evaluations.

`mogfn-al` beside evolution, NSGA-II and random search: samplers of Orchestrate's, at most eight candidates
at a time, on the same supernets (progressive shrinking) of digits (8x8), with --full also of Fashion-MNIST.
Searches see validation accuracies; the fronts found are scored on the test split, too. Hypervolumes are
counted from an accuracy that any sub-net has and from the largest network; accuracy 1 of the smallest is 1.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import moocore
import numpy as np
from _compare import compare, quartiles
from _nasbench import SAMPLERS
from _ofa import DIGITS, FASHION, FEWEST, SHRINKING, SMOKE, Bench, Setting, accuracies, supernets
from _record import Record, Run, Size, each_core
from numpy.typing import NDArray

from orchestrate.core import Candidate, Goal, Observation, Sampler, SearchProblem
from orchestrate.core.indicators import preferences, top_k_diversity, top_k_reward
from orchestrate.core.registry import Registry
from orchestrate.plugins.ofa.search import CostModel

Floats = NDArray[np.float64]

OURS = "mogfn-al"
ARMS: dict[str, Mapping[str, Any]] = {
    OURS: {"name": OURS},
    **{name: SAMPLERS[name] for name in ("evolution", "nsga2", "random")},
}
EVALUATIONS: dict[Size, int] = {"smoke": 16, "default": 300, "full": 300}
AT_ONCE = 8
"""Candidates asked for at a time: as many, or fewer where the sampler would rather see results first."""
SETTINGS: dict[Size, tuple[Setting, ...]] = {
    "smoke": (SMOKE,),
    "default": (DIGITS,),
    "full": (DIGITS, FASHION),
}
LEAST = {"digits": 0.9, "Fashion-MNIST": 0.7}
"""Accuracies that hypervolumes count from."""


@cache
def _bench(place: int, size: Size, folder: Path) -> Bench:
    setting = SETTINGS[size][place]
    return Bench(setting, 1, folder / setting.name, size == "smoke")


def _search_job(work: tuple[int, Path, str, Size, int]) -> dict[str, Any]:
    """Search one supernet: qualities (n, 2) of what was evaluated, and of the front on the test split."""
    place, folder, arm, size, seed = work
    bench = _bench(place, size, folder)
    supernet, costs = bench.trained(SHRINKING, seed).supernet, CostModel(bench.space, bench.shape)
    low, high = (costs.of(one).macs for one in (bench.space.smallest, bench.space.largest))
    least = 0.0 if bench.smoke else LEAST[bench.setting.name]

    def quality(accuracy: float, candidate: Candidate) -> tuple[float, float]:
        return (accuracy - least) / (1 - least), (high - costs.of(candidate).macs) / (high - low)

    options = dict(ARMS[arm])
    sampler = Registry.discover().create(Sampler, options.pop("name"), options)
    goals = Goal("accuracy", "maximize"), Goal("macs", "minimize")
    exact = {"macs": lambda candidate: costs.of(candidate).macs}
    sampler.start(SearchProblem(bench.space, goals, seed, EVALUATIONS[size], exact))
    known: dict[Candidate, float] = {}
    seconds = 0.0
    number = 0
    while number < EVALUATIONS[size]:
        begun = time.process_time()
        at_once = min(AT_ONCE, sampler.lookahead, EVALUATIONS[size] - number)
        numbers = range(number, number + at_once)
        asked = [sampler.ask(one) for one in numbers]
        seconds += time.process_time() - begun
        new = [one for one in dict.fromkeys(asked) if one not in known]
        known.update(zip(new, accuracies(supernet, new, bench.images), strict=True))
        begun = time.process_time()
        for number, one in zip(numbers, asked, strict=True):
            found = {"accuracy": known[one], "macs": costs.of(one).macs}
            sampler.tell(number, one, Observation("finished", found))
        number = numbers.stop
        seconds += time.process_time() - begun
    evaluated = list(known)
    qualities = np.array([quality(known[one], one) for one in evaluated])
    front = [evaluated[index] for index in np.flatnonzero(moocore.is_nondominated(-qualities))]
    tested = accuracies(supernet, front, bench.test)
    weights = preferences(2)
    return {
        "qualities": qualities.tolist(),
        "tested": [quality(accuracy, one) for accuracy, one in zip(tested, front, strict=True)],
        "reward": top_k_reward(qualities, weights),
        "diversity": top_k_diversity(qualities, weights, evaluated),
        "seconds": seconds / EVALUATIONS[size],
    }


def volume(qualities: Sequence[Sequence[float]]) -> float:
    """Hypervolume over the origin."""
    return float(moocore.hypervolume(-np.asarray(qualities), ref=np.zeros(2)))


def records(name: str, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Record]:
    """One record an indicator, of each arm's seeds."""
    best = [
        volume([point for arm in found.values() for point in arm[seed]["qualities"]])
        for seed in range(len(found[OURS]))
    ]
    table: dict[str, dict[str, list[float]]] = {
        "hypervolume, as a part of that of all searches together": {
            arm: [volume(one["qualities"]) / most for one, most in zip(every, best, strict=True)]
            for arm, every in found.items()
        },
        "hypervolume on the test split": {
            arm: [volume(one["tested"]) for one in every] for arm, every in found.items()
        },
        "top-10 reward": {arm: [one["reward"] for one in every] for arm, every in found.items()},
        "top-10 diversity": {arm: [one["diversity"] for one in every] for arm, every in found.items()},
        "CPU seconds of the sampler's own, a trial": {
            arm: [one["seconds"] for one in every] for arm, every in found.items()
        },
    }
    return [
        _record(name, indicator, values, first=index == 0)
        for index, (indicator, values) in enumerate(table.items())
    ]


def _record(name: str, indicator: str, values: Mapping[str, Sequence[float]], *, first: bool) -> Record:
    ours = values[OURS]
    judged = first and len(ours) >= FEWEST
    peers = {arm: float(np.mean(found)) for arm, found in values.items() if arm != OURS}
    best = max(peers, key=peers.__getitem__)
    gain = compare(np.subtract(ours, values[best]).tolist(), [0.0] * len(ours))  # on the same supernets
    return Record(
        claim=f"{name}: mogfn-al finds a better front than the best peer" if first else f"{name}: beside it",
        metric=indicator,
        value=float(np.mean(ours)),
        spread=quartiles(ours),
        seeds=len(ours),
        peers=peers,
        goal="interval above 0" if judged else "",
        holds=gain.low > 0 if judged else None,
        note=f"best peer {best}; {gain}, on the same supernets" if judged else "",
        details={arm: list(found) for arm, found in values.items()},
    )


def main() -> None:
    run = Run.from_command_line(__file__, __doc__, {"smoke": 1, "default": 5, "full": 5})
    every: list[Record] = []
    with supernets() as folder, each_core(run) as spread:
        for place, setting in enumerate(SETTINGS[run.size]):
            seeds = min(run.seeds, 3) if setting is FASHION else run.seeds
            Bench(setting, seeds, folder / setting.name, run.size == "smoke").train((SHRINKING,))
            found = {
                arm: list(
                    spread(_search_job, [(place, folder, arm, run.size, seed) for seed in range(seeds)])
                )
                for arm in ARMS
            }
            every += records(setting.name, found)
            run.write(every)
    run.show(every)


if __name__ == "__main__":
    main()
