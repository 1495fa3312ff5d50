"""Gradient coding on real processes: do the simulator's predictions hold, and what does all-reduce take?

Twelve Ray actors train three small networks by turns with real gradients. Each worker idles before it
computes, as a made-up Gilbert-Elliott trace says; the same trace is replayed for each scheme, for plain
all-reduce through torch.distributed (gloo), and in the simulator, which knows nothing of the processes.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch
from _compare import quartiles
from _record import Record, Run
from torch import Tensor, nn

from orchestrate.core import local_gradient
from orchestrate.core.interleave import Interleaver
from orchestrate.plugins.gradient_coding.planning import Fixed
from orchestrate.plugins.gradient_coding.selection import Plan
from orchestrate.plugins.gradient_coding.session import Session, Setting
from orchestrate.plugins.gradient_coding.simulation import simulate
from orchestrate.plugins.gradient_coding.stragglers.generators import GilbertElliott, Service
from orchestrate.plugins.gradient_coding.stragglers.profile import Profile
from orchestrate.plugins.gradient_coding.waiting import Wait
from orchestrate.scheduler.workers import RayWorkerGroup

MODELS = 3
BATCH = 240
CLOSE = 0.10


@dataclass(frozen=True)
class Scale:
    """Workers, gradients of each network, and seconds of a normal reply without load."""

    workers: int
    steps: int
    base: float


class Learner:
    """A small convolutional network on random images."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model = nn.Sequential(
                nn.Conv2d(1, 8, 3, padding=1),
                nn.GroupNorm(2, 8),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(512, 128),
                nn.ReLU(),
                nn.Linear(128, 10),
            )
        self.images = torch.randn(BATCH, 1, 8, 8, generator=generator)
        self.targets = torch.randint(10, (BATCH,), generator=generator)

    def loss_sum(self, samples: Tensor) -> Tensor:
        """Cross entropy over `samples`."""
        logits = self.model(self.images[samples])
        return nn.functional.cross_entropy(logits, self.targets[samples], reduction="sum")


def train(learner: Learner, gradient: Callable[[Learner, Tensor], float], steps: int) -> Tensor:
    """Train; give the weights."""
    optimizer = torch.optim.Adam(learner.model.parameters(), lr=1e-3)
    for _ in range(steps):
        gradient(learner, torch.arange(BATCH))
        optimizer.step()
    return torch.cat([one.detach().flatten() for one in learner.model.parameters()])


def plans(n: int) -> list[Plan]:
    """One of each scheme, for n workers."""
    third = max(1, n // 3)
    return [
        Plan("uncoded"),
        Plan("gc-frc", {"s": 1}, Wait(mu=0.0)),
        Plan("gc", {"s": min(2, n - 2)}, Wait(mu=0.0)),
        Plan("sr-sgc", {"B": 1, "W": 2, "lambda": third}, Wait(mu=0.5)),
        Plan("m-sgc", {"B": 1, "W": 2, "lambda": third}, Wait(mu=0.5)),
    ]


def stay(model: int) -> None:
    """Hear that a network has ended, and do nothing."""


@dataclass(frozen=True)
class Outcome:
    """A real training: its wall time, and the master's part of it; the largest error of a weight."""

    seconds: float
    master: float
    error: float


def coded(group: RayWorkerGroup, plan: Plan, trace: Profile, scale: Scale) -> Outcome:
    """Train the networks by turns under a plan."""
    positions: dict[int, int] = {}

    def pause(number: int, worker: int, load: float) -> float:
        return float(trace.at(number - 1, np.full(trace.n, load))[positions[worker]])

    planner = Fixed(lambda workers, _: plan.make(workers), plan.wait)
    session = Session(group, planner, MODELS, Setting(pause=pause))
    positions |= session.positions
    session.retire = stay  # type: ignore[method-assign] # the last rounds, too, are the plan's
    interleaver = Interleaver(session)
    begun = time.perf_counter()
    found: Any = interleaver.run(
        {
            seed: (
                seed,
                lambda seed=seed: train(
                    Learner(seed), lambda one, samples: interleaver.gradient(seed, one, samples), scale.steps
                ),
            )
            for seed in range(MODELS)
        }
    )
    seconds = time.perf_counter() - begun
    for result in found.values():
        if isinstance(result, BaseException):
            raise result
    error = max(
        float((found[seed] - train(Learner(seed), local_gradient, scale.steps)).abs().max())
        for seed in range(MODELS)
    )
    return Outcome(seconds, session.metrics()["workers/master_share"], error)


@ray.remote(num_cpus=0)
class Rank:
    """A process of a gloo group."""

    def join(self, address: str, rank: int, size: int) -> None:
        """Enter the group."""
        import torch.distributed as dist

        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=size)
        self.rank, self.size = rank, size
        self.learners = [Learner(seed) for seed in range(MODELS)]

    def train(self, pauses: list[float]) -> float:
        """A gradient a pause, of one network after the other; seconds of all of them."""
        import torch.distributed as dist

        samples = torch.arange(BATCH).tensor_split(self.size)[self.rank]
        dist.barrier()
        begun = time.perf_counter()
        for step, pause in enumerate(pauses):
            learner = self.learners[step % MODELS]
            time.sleep(pause)
            learner.model.zero_grad()
            learner.loss_sum(samples).backward()
            flat = torch.cat([one.grad.flatten() for one in learner.model.parameters()])  # type: ignore[union-attr]
            dist.all_reduce(flat)
        return time.perf_counter() - begun


def all_reduce(trace: Profile, scale: Scale) -> float:
    """The same number of gradients by all-reduce, with the delays of uncoded workers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    ranks = [Rank.remote() for _ in range(scale.workers)]
    ray.get([rank.join.remote(address, number, scale.workers) for number, rank in enumerate(ranks)])
    loads = np.full(trace.n, 1 / trace.n)
    table = np.array([trace.at(index, loads) for index in range(MODELS * scale.steps)])
    try:
        return max(
            ray.get([rank.train.remote(table[:, number].tolist()) for number, rank in enumerate(ranks)])
        )
    finally:
        for rank in ranks:
            ray.kill(rank)


def traces(run: Run, scale: Scale) -> Iterator[Profile]:
    """A trace for each repetition."""
    rounds = MODELS * scale.steps + 2 * MODELS
    for seed in range(run.seeds):
        rng = np.random.default_rng(seed)
        slow = GilbertElliott(0.05, 0.7).pattern(rounds, scale.workers, rng)
        service = Service(base=scale.base, scale=0.04 * scale.base, slope=2 * scale.base)
        yield service.profile(slow, rng)


def measure(run: Run, scale: Scale) -> list[Record]:
    """Train with each plan on each trace."""
    group = RayWorkerGroup(scale.workers, 0, 0)
    chosen = plans(scale.workers)
    outcomes: dict[str, list[Outcome]] = {str(plan): [] for plan in chosen}
    predicted: dict[str, list[float]] = {str(plan): [] for plan in chosen}
    peers: list[float] = []
    jobs = MODELS * scale.steps
    try:
        calm = Profile(np.zeros((99, scale.workers)), np.zeros((99, scale.workers)), 0.0)
        coded(group, Plan("uncoded"), calm, Scale(scale.workers, 2, 0.0))  # by now all processes are warm
        for trace in traces(run, scale):
            for plan in chosen:
                predicted[str(plan)].append(
                    simulate(plan.make(scale.workers), trace, jobs, plan.wait).seconds
                )
                outcomes[str(plan)].append(coded(group, plan, trace, scale))
            peers.append(all_reduce(trace, scale))
    finally:
        group.close()
    records: list[Record] = []
    for plan in chosen:
        real = [outcome.seconds for outcome in outcomes[str(plan)]]
        ratios = [one / other for one, other in zip(real, predicted[str(plan)], strict=True)]
        ratio = float(np.median(ratios))
        error = max(outcome.error for outcome in outcomes[str(plan)])
        master = float(np.median([outcome.master for outcome in outcomes[str(plan)]]))
        against = [one / other for one, other in zip(real, peers, strict=True)]
        records.append(
            Record(
                claim=f"{plan} on {scale.workers} Ray actors takes as long as simulated",
                metric="wall time / simulated time",
                value=ratio,
                spread=quartiles(ratios),
                seeds=run.seeds,
                goal=f"within {CLOSE:.0%}",
                holds=bool(abs(ratio - 1) <= CLOSE),
                peers={"time / all-reduce's": float(np.median(against))},
                note=f"{jobs} gradients; weights within {error:.1g} of one process's",
                details={"seconds": real, "simulated": predicted[str(plan)], "all_reduce": peers},
            )
        )
        records.append(
            Record(
                claim=f"The master's own time in a round of {plan}",
                metric="% of a round",
                value=100 * master,
                spread=quartiles([100 * outcome.master for outcome in outcomes[str(plan)]]),
                seeds=run.seeds,
                goal="under 3 %",
                holds=bool(master < 0.03),
            )
        )
    return records


def main() -> None:
    run = Run.from_command_line(__file__, __doc__, {"smoke": 1, "default": 3, "full": 10})
    ray.init(
        address=os.environ.get("RAY_ADDRESS", "local"),
        num_cpus=None if "RAY_ADDRESS" in os.environ else 16,
        include_dashboard=None if "RAY_ADDRESS" in os.environ else False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    scale = Scale(3, 2, 0.05) if run.size == "smoke" else Scale(12, 12, 1.0)
    run.publish(measure(run, scale))


if __name__ == "__main__":
    main()
