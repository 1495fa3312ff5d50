"""Does coding gradients pay, and which scheme pays most?

`simulated` runs the production state machines with 256 workers in virtual time: parameters are picked on
80 rounds of reply times, and 480 jobs are timed on fresh ones. `recorded` does the same with times that
were measured, those of 256 shares of a real gradient on this machine. `selection` asks how much is lost by
letting the selection choose. `decoding` times what the master does itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from _compare import quartiles
from _record import Mapper, Record, Run, each_core
from threadpoolctl import threadpool_limits

from orchestrate.plugins.gradient_coding.codes import Code, FractionalRepetition, RandomCyclic
from orchestrate.plugins.gradient_coding.schemes import (
    GradientCoding,
    Multiplexed,
    Scheme,
    SelectiveRepetition,
)
from orchestrate.plugins.gradient_coding.selection import Plan, compare, probes, search
from orchestrate.plugins.gradient_coding.selection.candidates import WINDOWS
from orchestrate.plugins.gradient_coding.selection.choose import replay
from orchestrate.plugins.gradient_coding.stragglers.generators import GilbertElliott, Service, conforming
from orchestrate.plugins.gradient_coding.stragglers.models import Arbitrary, Bursty, Pattern
from orchestrate.plugins.gradient_coding.stragglers.profile import Profile, fit_slope
from orchestrate.plugins.gradient_coding.vectors import Vector, combine
from orchestrate.plugins.gradient_coding.waiting import Rounds, Rule, Wait

WORKERS = 256
PARAMETERS = 270_000
MODELS = 4
DELAY = MODELS - 1
SCHEMES = ("backup", "gc", "gc-frc", "gc-partial", "sr-sgc", "m-sgc")
PAPER = 0.16
"""What the paper reports M-SGC to save over GC (Krishnan et al., 2023, abstract)."""


@dataclass(frozen=True)
class Scale:
    """How much is simulated: workers, rounds to pick by, jobs that are timed."""

    workers: int
    probe: int
    jobs: int


@dataclass(frozen=True)
class Regime:
    """A kind of straggling: which workers are slow when, and seconds for each unit of load."""

    name: str
    slow: Callable[[int, int, np.random.Generator], Pattern]
    slope: float

    def profile(self, rounds: int, workers: int, rng: np.random.Generator) -> Profile:
        """Reply times made up afresh."""
        return Service(slope=self.slope).profile(self.slow(rounds, workers, rng), rng)


def chain(p_slow: float, p_normal: float, slope: float) -> Regime:
    name = f"Gilbert-Elliott {p_slow:g}, {p_normal:g}, slope {slope:g}"
    return Regime(name, GilbertElliott(p_slow, p_normal).pattern, slope)


REGIMES = (
    chain(0.02, 0.9, 2.2),
    chain(0.02, 0.9, 10),
    chain(0.05, 0.9, 10),
    chain(0.02, 0.9, 30),
    chain(0.02, 0.5, 10),
    Regime(
        "bursty (2, 3, 20), slope 10",
        lambda rounds, workers, rng: conforming(Bursty(2, 3, 20), rounds, workers, 0.1, rng),
        10,
    ),
    Regime(
        "arbitrary (2, 5, 20), slope 10",
        lambda rounds, workers, rng: conforming(Arbitrary(2, 5, 20), rounds, workers, 0.1, rng),
        10,
    ),
)


@dataclass(frozen=True)
class Setting:
    """How rounds wait: by which rule, and with which windows to choose from."""

    name: str
    rule: Rule
    mus: tuple[float, ...]


SETTINGS = (
    Setting("wait-all, window 2x", Rule.EVERYONE, (1.0,)),
    Setting("incremental, window 2x", Rule.CONFORM, (1.0,)),
    Setting("feasible, window 2x", Rule.FEASIBLE, (1.0,)),
    Setting("feasible, window picked", Rule.FEASIBLE, WINDOWS),
)


@dataclass
class Times:
    """Seconds for all jobs, by seed: of each scheme with the parameters picked for it."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    plans: dict[str, list[str]] = field(default_factory=dict)

    def add(self, scheme: str, seconds: float, plan: Plan) -> None:
        self.seconds.setdefault(scheme, []).append(seconds)
        self.plans.setdefault(scheme, []).append(f"{plan}, window {1 + plan.wait.mu:g}x")

    def join(self, other: Mapping[str, Mapping[str, list[Any]]]) -> None:
        """Add another seed's."""
        for name, mine in (("seconds", self.seconds), ("plans", self.plans)):
            for scheme, values in other[name].items():
                mine.setdefault(scheme, []).extend(values)

    def median(self, scheme: str) -> float:
        return float(np.median(self.seconds[scheme]))


def timed(probe: Profile, fresh: Profile, setting: Setting, jobs: int, times: Times) -> None:
    """Pick parameters on `probe`, and time them on `fresh`."""
    for found in search(probe, DELAY, SCHEMES, rule=setting.rule, mus=setting.mus):
        measured, _ = replay(found.plan, fresh, jobs)
        times.add(found.plan.scheme, measured.seconds_per_job * jobs, found.plan)


def simulated(run: Run, numbers: Sequence[int], scale: Scale, spread: Mapper) -> list[Record]:
    items = [(number, seed, scale) for number in numbers for seed in range(run.seeds)]
    found: dict[tuple[int, str], Times] = {}
    for (number, _, _), times in zip(items, spread(one, items), strict=True):
        for setting in SETTINGS:
            found.setdefault((number, setting.name), Times()).join(times[setting.name])
        print(f"{REGIMES[number].name}: after {time.time() - run.started_at:.0f} s", flush=True)
    return [
        as_record(REGIMES[number].name, name, times, scale.jobs) for (number, name), times in found.items()
    ]


def one(item: tuple[int, int, Scale]) -> dict[str, Any]:
    """Seconds and plans of each scheme, by setting, in one regime with one seed."""
    number, seed, scale = item
    rng = np.random.default_rng([seed, number])
    probe = REGIMES[number].profile(scale.probe + DELAY, scale.workers, rng)
    fresh = REGIMES[number].profile(scale.jobs + DELAY, scale.workers, rng)
    found = {setting.name: Times() for setting in SETTINGS}
    for setting in SETTINGS:
        timed(probe, fresh, setting, scale.jobs, found[setting.name])
    return {name: asdict(times) for name, times in found.items()}


def as_record(regime: str, setting: str, times: Times, jobs: int, told: str = "") -> Record:
    ours = np.array(times.seconds["m-sgc"])
    saved = 1 - ours / np.array(times.seconds["gc"])
    exact = [scheme for scheme in times.seconds if scheme != "backup"]
    best = min(exact, key=times.median)
    return Record(
        claim=f"{regime}; {setting}: M-SGC against GC, as in the paper",
        metric=f"seconds, {jobs} jobs",
        value=float(np.median(ours)),
        spread=quartiles(ours),
        seeds=len(ours),
        peers={
            scheme: times.median(scheme)
            for scheme in ("uncoded", "backup", "gc", "gc-frc", "gc-partial", "sr-sgc")
        },
        goal=f"saves {PAPER:.0%} over gc",
        holds=bool(np.median(saved) >= PAPER),
        note="; ".join(
            filter(
                None,
                (
                    f"saves {np.median(saved):.0%} ({saved.min():.0%} to {saved.max():.0%})",
                    f"fastest exact: {best}",
                    told,
                ),
            )
        ),
        details={"seconds": times.seconds, "picked": times.plans},
    )


# Times that were measured --------------------------------------------------------------------------


def record(scale: Scale, rounds: int, rng: np.random.Generator) -> Profile:
    """Time shares of a gradient, of a network with one hidden layer and a batch of 16 samples a worker, one
    after another on one core of this machine, each round's workers in an order of their own. What straggles
    is what other processes delay. The first rounds have the loads of a
    probe, the others that of uncoded training.
    """
    images = rng.standard_normal((16 * scale.workers, 64), dtype=np.float32)
    first = rng.standard_normal((64, 500), dtype=np.float32) / 8
    second = rng.standard_normal((500, 10), dtype=np.float32) / 22
    shares = [plan.make(scale.workers).load for plan in probes(scale.workers)]
    seconds, loads = np.empty((rounds, scale.workers)), np.empty((rounds, scale.workers))
    loads[:] = shares[0]
    for number, share in enumerate(shares):
        loads[5 * number : 5 * number + 5] = share
    with threadpool_limits(1):
        for index in range(rounds):
            for worker in rng.permutation(scale.workers):
                batch = images[: round(len(images) * loads[index, worker])]
                begun = time.perf_counter()
                hidden = np.maximum(batch @ first, 0)
                error = hidden @ second
                _ = hidden.T @ error, batch.T @ ((error @ second.T) * (hidden > 0))
                seconds[index, worker] = time.perf_counter() - begun
    slope = fit_slope(loads, seconds)
    assert slope is not None
    return Profile(seconds, loads, slope, "this machine")


def recorded(run: Run, scale: Scale) -> list[Record]:
    found = {setting.name: Times() for setting in SETTINGS}
    slopes: list[float] = []
    for seed in range(run.seeds):
        picked_on = scale.probe + DELAY
        whole = record(scale, picked_on + scale.jobs + DELAY, np.random.default_rng(seed))
        slopes.append(whole.slope / float(np.median(whole.seconds)))
        probe, fresh = whole.part(0, picked_on), whole.part(picked_on, whole.rounds)
        for setting in SETTINGS:
            timed(probe, fresh, setting, scale.jobs, found[setting.name])
    told = f"slope {np.median(slopes):.0f} x a usual reply"
    name = "recorded on this machine"
    return [as_record(name, setting, times, scale.jobs, told) for setting, times in found.items()]


# What the selection costs ---------------------------------------------------------------------------


def selection(run: Run, regimes: Sequence[Regime], scale: Scale) -> list[Record]:
    jobs = scale.jobs
    records: list[Record] = []
    for number, regime in enumerate(regimes):
        chosen: list[float] = []
        uncoded: list[float] = []
        best: list[float] = []
        predicted: list[bool] = []
        for seed in range(run.seeds):
            rng = np.random.default_rng([seed, number, 1])
            probe = regime.profile(scale.probe, scale.workers, rng)
            fresh = regime.profile(jobs + DELAY, scale.workers, rng)
            report = compare(probe, DELAY)
            chosen.append(replay(report.choice, fresh, jobs)[0].seconds_per_job * jobs)
            uncoded.append(replay(Plan("uncoded"), fresh, jobs)[0].seconds_per_job * jobs)
            best.append(search(fresh, DELAY)[0].seconds_per_job * jobs)
            predicted.append(report.interval[0] <= 1 - chosen[-1] / uncoded[-1] <= report.interval[1])
        regret = np.array(chosen) / np.array(best) - 1
        records.append(
            Record(
                claim=f"{regime.name}: what is picked on {scale.probe} rounds, against the best in hindsight",
                metric=f"seconds, {jobs} jobs",
                value=float(np.median(chosen)),
                spread=quartiles(chosen),
                seeds=run.seeds,
                peers={"uncoded": float(np.median(uncoded)), "in hindsight": float(np.median(best))},
                goal="within 5 %",
                holds=bool(np.median(regret) <= 0.05),
                note=f"{np.median(regret):+.1%}; {sum(predicted)} of {run.seeds} gains within their interval",
            )
        )
        print(f"selection, {regime.name}: after {time.time() - run.started_at:.0f} s", flush=True)
    return records


# The master's own time -----------------------------------------------------------------------------


def decoding(run: Run) -> list[Record]:
    rng = np.random.default_rng(0)
    gone = [rng.choice(WORKERS, 27, replace=False) for _ in range(20)]
    codes: Mapping[str, Code] = {
        "fractional repetition": FractionalRepetition(WORKERS, 27),
        "cyclic, random": RandomCyclic(WORKERS, 27),
    }
    torch.set_num_threads(1)
    records: list[Record] = []
    for name, code in codes.items():
        # What travels: single precision for plain sums, double where coefficients are real.
        dtype = np.float32 if isinstance(code, FractionalRepetition) else np.float64
        replies = [reply(rng.standard_normal(PARAMETERS).astype(dtype)) for _ in range(WORKERS)]
        spent = np.array([decode(code, replies, stragglers) for stragglers in gone]) * 1000
        weights, _, reading = np.median(spent, axis=0)
        total = spent[:, 0] + spent[:, 1]
        records.append(
            Record(
                claim=f"Decoding 27 stragglers of {WORKERS}, {PARAMETERS:,} parameters: {name}",
                metric="ms",
                value=float(np.median(total)),
                spread=quartiles(total),
                seeds=len(gone),
                peers={"weights alone": float(weights), "reading alone": float(reading)},
                goal="under 5 ms",
                holds=bool(np.median(total) < 5),
                note=f"{np.count_nonzero(code.solve(~mask(gone[0])).values)} vectors of "
                f"{8 * dtype(0).itemsize} bits are added",
            )
        )
        walls = np.array([shared(code, replies, stragglers) for stragglers in gone]) * 1000
        records.append(
            Record(
                claim=f"The sum alone, shared out over two threads: {name}",
                metric="ms, wall time",
                value=float(np.median(walls[:, 1])),
                spread=quartiles(walls[:, 1].tolist()),
                seeds=len(gone),
                peers={"one thread": float(np.median(walls[:, 0]))},
            )
        )
    schemes: tuple[Scheme, ...] = (
        GradientCoding(WORKERS, 3),
        SelectiveRepetition(WORKERS, 2, 3, 23),
        Multiplexed(WORKERS, 2, 3, 30),
    )
    rounds = 40 if run.size == "smoke" else 200
    return records + [bookkeeping(scheme, mu, rounds) for scheme in schemes for mu in (0.0, 1.0)]


def reply(gradient: np.ndarray) -> Vector:
    return Vector((gradient,), np.zeros(1), np.ones(1, dtype=bool))


def mask(workers: np.ndarray) -> np.ndarray:
    found = np.zeros(WORKERS, dtype=bool)
    found[workers] = True
    return found


def decode(code: Code, replies: Sequence[Vector], stragglers: np.ndarray) -> tuple[float, float, float]:
    """CPU seconds for the weights, and for the weighted sum, as the master computes them; and for merely
    reading what is added: no way to add it up takes less.
    """
    times = [time.process_time()]
    values = code.solve(~mask(stragglers)).values
    times.append(time.process_time())
    used = np.flatnonzero(values)
    combine([(replies[worker], float(values[worker])) for worker in used])
    times.append(time.process_time())
    for worker in used:
        torch.from_numpy(replies[worker].buckets[0]).sum()
    times.append(time.process_time())
    weights, sums, reading = np.diff(times).tolist()
    return weights, sums, reading


def shared(code: Code, replies: Sequence[Vector], stragglers: np.ndarray) -> tuple[float, float]:
    """Seconds of the weighted sum on one thread, and on two, each with half of the elements."""
    values = code.solve(~mask(stragglers)).values
    used = np.flatnonzero(values)
    walls: list[float] = []
    for threads in (1, 2):
        size = PARAMETERS // threads
        shards = [
            [
                (reply(replies[worker].buckets[0][start : start + size]), float(values[worker]))
                for worker in used
            ]
            for start in range(0, PARAMETERS, size)
        ]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(abs, range(threads)))  # they have started
            begun = time.perf_counter()
            list(pool.map(combine, shards))
            walls.append(time.perf_counter() - begun)
    return walls[0], walls[1]


def bookkeeping(scheme: Scheme, mu: float, rounds: int) -> Record:
    """CPU time of assigning, observing, closing and decoding weights, as part of the rounds' own time."""
    rng = np.random.default_rng(0)
    delays = REGIMES[1].profile(rounds, WORKERS, rng)
    master = Rounds(scheme, Wait(mu=mu))
    shares: list[float] = []
    clock = 0.0
    for index in range(rounds):
        begun = time.process_time()
        assignment = master.begin(clock)
        for worker in range(WORKERS):
            scheme.parts(worker)
        spent = time.process_time() - begun
        times = delays.at(index, assignment.loads)
        events = sorted((float(times[worker]), worker) for worker in range(WORKERS))
        begun = time.process_time()
        ended = None
        for after, worker in events:
            window = master.look_again
            if window is not None and window < clock + after and master.may_close(window):
                ended = master.close(window)
                break
            master.observe(worker, clock + after)
            if master.may_close(clock + after):
                ended = master.close(clock + after)
                break
        assert ended is not None
        for job in ended.decodable:
            scheme.decode(job)
        spent += time.process_time() - begun
        clock += ended.duration
        shares.append(spent / ended.duration)
    return Record(
        claim=f"The master's bookkeeping in a round of {WORKERS} workers: {scheme!r}, window {1 + mu:g}x",
        metric="% of a round",
        value=100 * float(np.median(shares)),
        spread=quartiles([100 * share for share in shares]),
        seeds=rounds,
        goal="under 3 %",
        holds=bool(np.median(shares) < 0.03),
        note=f"a round takes {clock / rounds:.2f} s",
    )


PARTS = ("simulated", "recorded", "selection", "decoding")


def main() -> None:
    run = Run.from_command_line(__file__, __doc__, {"smoke": 2, "default": 3, "full": 10}, PARTS)
    smoke = run.size == "smoke"
    numbers = [1] if smoke else range(len(REGIMES))
    scale = Scale(24, 24, 16) if smoke else Scale(WORKERS, 80, 480)
    records: list[Record] = []
    for part in run.only or PARTS:
        if part == "simulated":
            with each_core(run) as spread:
                records += simulated(run, numbers, scale, spread)
        elif part == "recorded":
            records += recorded(run, scale)
        elif part == "selection":
            records += selection(
                run,
                REGIMES[1:4:2] if run.size == "default" else [REGIMES[number] for number in numbers],
                scale,
            )
        else:
            records += decoding(run)
    run.publish(records)


if __name__ == "__main__":
    main()
