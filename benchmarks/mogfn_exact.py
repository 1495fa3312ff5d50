"""Objectives that cost nothing: does a multi-objective GFlowNet learn what it should, and serve it well?

- `exact`: is the distribution learnt? HyperGrid 8 x 8, whose distributions are known for every preference.
- `grids`, `words`: HyperGrid 32 x 32; words of six letters, 8 to 12 long. `mogfn-pc` is trained on them
  and then gives 128 candidates for evenly spread preferences. NSGA-III (pymoo) gets as many evaluations as
  the training, and gives its last population of 128; random search gives 128 candidates. Compared are
  hypervolume, R2, and reward and diversity of the ten best for a preference. Scores are in [0, 1],
  reference point 0. On grids, also: how far preferences are followed.
- `step`: CPU time of a training step of 128 trajectories over 20 choices.
- `asks`: CPU time of a proposal by a trained policy, on Once-for-All's space of 5e20 networks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from _compare import compare, quartiles
from _record import Mapper, Record, Run, Size, each_core
from _served import (
    DISTANCE,
    FIVE,
    GIVERS,
    HELD_OUT,
    LARGER_IS_BETTER,
    TASKS,
    UTILITY,
    Errors,
    errors,
    judge,
)
from numpy.typing import NDArray

from orchestrate.core import Candidate, Choose, Goal, SearchProblem, SearchSpace, Shape, enumerate_candidates
from orchestrate.plugins.mogfn.conditions import BetaOptions
from orchestrate.plugins.mogfn.gflownet import GFlowNet
from orchestrate.plugins.mogfn.hypergrid import HyperGrid
from orchestrate.plugins.mogfn.options import TrainingOptions
from orchestrate.plugins.mogfn.pc import MogfnPc, PcOptions
from orchestrate.plugins.mogfn.walk import Walks
from orchestrate.plugins.ofa.mobile import OfaMobileNetV3
from orchestrate.plugins.ofa.search import CostModel

Floats = NDArray[np.float64]

# The distribution ------------------------------------------------------------------------------------

EXACT: dict[Size, tuple[int, int]] = {"smoke": (3, 16), "default": (1000, 64), "full": (2000, 128)}
"""Training steps, and trajectories in each."""
GATES = {1.0: (0.06, 0.12, 0.15), 8.0: (0.12, 0.25, 0.15)}
"""By β, for each seed: mean and largest L1 over five preferences, largest error of log Z."""


def _trained_grid(work: tuple[float, int, Size, Literal["shift", "film"]]) -> tuple[Errors, Errors]:
    """Errors on seen and on held-out preferences."""
    beta, seed, size, conditioning = work
    steps, batch = EXACT[size]
    space = HyperGrid(HyperGrid.Options(size=8))
    scores = {
        one: np.maximum([space.score(one)["branin"], space.score(one)["currin"]], 0)
        for one in enumerate_candidates(space)
    }
    net = GFlowNet(
        space.environment(),
        2,
        lambda found: np.array([scores[one] for one in found]),
        TrainingOptions(
            steps=steps,
            batch=batch,
            beta=BetaOptions(high=beta, warmup=0.0),
            learning_rate=5e-3,
            width=64,
            conditioning=conditioning,
        ),
        np.random.default_rng(seed),
    )
    net.train()
    return errors(net, beta, FIVE), errors(net, beta, HELD_OUT)


def exact_records(size: Size, seeds: int, spread: Mapper) -> list[Record]:
    """One record a temperature."""
    records: list[Record] = []
    for beta, (mean, most, log_z) in GATES.items():
        found, film = (
            [
                (Errors(*seen), Errors(*held))
                for seen, held in spread(_trained_grid, [(beta, seed, size, one) for seed in range(seeds)])
            ]
            for one in ("shift", "film")
        )
        print(f"exact: β = {beta:g} done", flush=True)
        distances = np.array([seen.distance for seen, _ in found])
        largest = max(seen.distance_most for seen, _ in found)
        off = max(seen.log_z_most for seen, _ in found)
        divergence = float(np.mean([seen.divergence for seen, _ in found]))
        records.append(
            Record(
                claim=f"grid 8 x 8, β = {beta:g}: mogfn-pc learns the exact distributions",
                metric="L1 distance, mean of five preferences",
                value=float(distances.mean()),
                spread=quartiles(distances),
                seeds=len(found),
                peers={
                    "preferences never seen": float(np.mean([held.distance for _, held in found])),
                    "conditioning: film": float(np.mean([seen.distance for seen, _ in film])),
                },
                goal=f"each seed: mean {mean}, largest {most}, log Z within {log_z}",
                holds=bool(distances.max() <= mean and largest <= most and off <= log_z),
                note=f"largest {largest:.3f}; log Z within {off:.3f}; Jensen-Shannon {divergence:.1e} nats",
                details={"distances": distances.round(5).tolist()},
            )
        )
    return records


# Candidates for all preferences ----------------------------------------------------------------------

FOLLOWED = 0.85
"""Served utility that a grid's policy has to reach: 0 ignores the preference, 1 is the exact policy."""


def _served_job(work: tuple[str, str, str, Size, int]) -> dict[str, float]:
    part, task, giver, size, seed = work
    given, followed = GIVERS[giver](TASKS[part][task], size, seed)
    return {**judge(TASKS[part][task], given), **followed}


def served_records(part: str, size: Size, seeds: int, spread: Mapper) -> list[Record]:
    """One record a task and indicator."""
    tasks = list(TASKS[part])[:1] if size == "smoke" else list(TASKS[part])
    records: list[Record] = []
    for task in tasks:
        found: dict[str, dict[str, Floats]] = {}
        for giver in GIVERS:
            every = list(spread(_served_job, [(part, task, giver, size, seed) for seed in range(seeds)]))
            found[giver] = {name: np.array([one[name] for one in every]) for name in every[0]}
        print(f"{part}: {task} done", flush=True)
        records += [_served_record(f"{part}, {task}", name, found) for name in LARGER_IS_BETTER]
        if UTILITY in found["mogfn-pc"]:
            records.append(_followed_record(f"{part}, {task}", found["mogfn-pc"]))
    return records


def _served_record(task: str, indicator: str, found: Mapping[str, Mapping[str, Floats]]) -> Record:
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
        note=str(test),
        details={name: table[indicator].round(5).tolist() for name, table in found.items()},
    )


def _followed_record(task: str, ours: Mapping[str, Floats]) -> Record:
    utility = ours[UTILITY]
    return Record(
        claim=f"{task}: the preference is followed",
        metric="served utility: 0 where it is ignored, 1 for the exact policy",
        value=float(utility.mean()),
        spread=quartiles(utility),
        seeds=len(utility),
        goal=f"each seed at least {FOLLOWED}",
        holds=bool(utility.min() >= FOLLOWED),
        note=f"mean L1 distance to the exact distributions {ours[DISTANCE].mean():.3f}",
        details={UTILITY: utility.round(4).tolist(), DISTANCE: ours[DISTANCE].round(4).tolist()},
    )


# Cost of training ------------------------------------------------------------------------------------


class Twenty(SearchSpace):
    """Twenty choices among five options."""

    name = "twenty"
    summary = "twenty choices"

    def choices(self, choose: Choose) -> None:
        for index in range(20):
            choose.categorical(f"c{index}", list("abcde"))


def step_records(size: Size, seeds: int, spread: Mapper) -> list[Record]:  # noqa: ARG001 - one signature
    """CPU time of a training step."""

    def rewards(found: Sequence[Candidate]) -> Floats:
        words = ["".join(map(str, one.values())) for one in found]
        return np.array([[word.count("a") / 20, word.count("b") / 20] for word in words])

    net = GFlowNet(Walks(Twenty()), 2, rewards, TrainingOptions(batch=128), np.random.default_rng(0))
    net.train(3 if size == "smoke" else 20)
    taken: list[float] = []
    for _ in range(3 if size == "smoke" else 60):
        begun = time.process_time()
        net.step()
        taken.append(1000 * (time.process_time() - begun))
    return [
        Record(
            claim="a training step of 128 trajectories over 20 choices",
            metric="CPU ms",
            value=float(np.median(taken)),
            spread=quartiles(taken),
            seeds=len(taken),
            goal="below 60",
            holds=float(np.median(taken)) < 60,
            note="default policy (3 layers of 128), half of the batch replayed, one thread",
        )
    ]


# Cost of a proposal ----------------------------------------------------------------------------------

COSTS = ("macs", "parameters")
ASKS: dict[Size, int] = {"smoke": 24, "default": 1000, "full": 1000}


def ask_records(size: Size, seeds: int, spread: Mapper) -> list[Record]:  # noqa: ARG001 - one signature
    """CPU time of an ask, its training apart."""
    space = OfaMobileNetV3()
    costs = CostModel(space, Shape((3, 224, 224), 1000))
    exact = {name: lambda one, name=name: float(getattr(costs.of(one), name)) for name in COSTS}
    goals = Goal("macs", "minimize"), Goal("parameters", "maximize")
    options = PcOptions(gflownet=TrainingOptions(steps=3 if size == "smoke" else 50))
    sampler = MogfnPc(options)
    sampler.start(SearchProblem(space, goals, 0, ASKS[size], exact))
    asked: list[Candidate] = []
    rounds: list[float] = []
    for first in range(0, ASKS[size], options.batch):
        begun = time.process_time()
        asked += [sampler.ask(number) for number in range(first, first + options.batch)]
        rounds.append(time.process_time() - begun)
    taken = [1000 * seconds / options.batch for seconds in rounds[1:]]
    valid = [one == space.generate(lambda choice, one=one: one[choice.name]) for one in asked]
    flaws = len(asked) - sum(valid), len(asked) - len(set(asked))
    mean = float(np.mean(taken))
    return [
        Record(
            claim=f"{len(asked)} proposals from a space of {space.size():.1e} networks",
            metric="CPU ms each, amortised",
            value=mean,
            spread=quartiles(taken),
            seeds=len(taken),
            goal="below 20, none invalid, none twice",
            holds=mean < 20 and flaws == (0, 0),
            note=f"{flaws[0]} invalid, {flaws[1]} twice; rounds of {options.batch}, one thread, without the "
            f"first, which trains ({rounds[0]:.0f} s for {options.gflownet.steps} steps)",
        )
    ]


SEEDS: dict[Size, int] = {"smoke": 2, "default": 3, "full": 5}
PARTS: dict[str, Callable[[Size, int, Mapper], list[Record]]] = {
    "exact": exact_records,
    "grids": lambda size, seeds, spread: served_records("grids", size, seeds, spread),
    "words": lambda size, seeds, spread: served_records("words", size, seeds, spread),
    "step": step_records,
    "asks": ask_records,
}


def main() -> None:
    run = Run.from_command_line(__file__, __doc__, SEEDS, tuple(PARTS))
    records: list[Record] = []
    with each_core(run) as spread:
        for part in run.only or PARTS:
            begun = time.perf_counter()
            records += PARTS[part](run.size, run.seeds, spread)
            print(f"{part}: {time.perf_counter() - begun:.0f} s", flush=True)
    run.publish(records)


if __name__ == "__main__":
    main()
