"""Does L-GreCo send less than uniform compression at the same accuracy, and what does deciding cost?

`quality`: a small convolutional network learns digits on four ranks, threads of one process that send
real encoded messages; each arm of each seed starts from the same weights and sees the same batches.
The learning rate was chosen by the validation split, without compression; accuracies are on the test split,
which nothing else has seen. The adverse case is a network of equal square layers: nothing to tell apart.
`planner`: the dynamic programme against an exact solver of mixed integer programmes (HiGHS).
`overhead`: processor time of statistics and decisions within a training's.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Any

import numpy as np
import torch
from _compare import quartiles
from _record import Record, Run, each_core
from numpy.typing import NDArray
from rich.progress import track
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, vstack
from scipy.stats import t as student
from torch import Tensor, nn

from orchestrate.core import Collective
from orchestrate.core.testing import Meeting
from orchestrate.core.training.collective import shard_sums
from orchestrate.core.training.data import batches
from orchestrate.plugins.lgreco.compression import Compression
from orchestrate.plugins.lgreco.planner import plan
from orchestrate.plugins.lgreco.strategy import LGreco, LGrecoOptions
from orchestrate.plugins.tasks.digits import Digits

RANKS = 4
BATCH = 64
RATE = 0.1
FAMILIES = {"powersgd": "PowerSGD, rank 4", "topk": "TopK, 1 %", "qsgd": "QSGD, 4 bits"}
HOW: Mapping[str, Mapping[str, Any]] = {
    "uniform": {"mode": "uniform"},
    "l2": {},
    "l2, a tenth to ten times": {"low": 0.1, "high": 10.0},
    "l2-squared": {"metric": "l2-squared"},
    "accordion": {"mode": "accordion"},
    "accordion-l-greco": {"mode": "accordion-l-greco"},
    "all families": {"also": ["topk", "qsgd", "dense"]},
}
ARMS = {
    "cnn": [("powersgd", "dense")]
    + [(family, how) for family in FAMILIES for how in ("uniform", "l2", "l2-squared")]
    + [("topk", "l2, a tenth to ten times")]
    + [("powersgd", how) for how in ("accordion", "accordion-l-greco", "all families")],
    "equal layers": [(family, how) for family in FAMILIES for how in ("uniform", "l2")],
}
SMOKE = {"cnn": [("powersgd", "dense"), ("topk", "uniform"), ("topk", "l2")]}
MINIMUM = {"cnn": 256, "equal layers": 1024}  # which leaves the head of equal layers dense
INSTANCES = ((50, 7), (160, 25), (400, 120))


@dataclass(frozen=True)
class Schedule:
    """Steps of a training, and of its phases."""

    steps: int
    start: int
    period: int
    window: int


SCHEDULES = {
    "smoke": Schedule(12, 3, 4, 2),
    "default": Schedule(200, 40, 40, 10),
    "full": Schedule(1200, 150, 100, 10),
}


# Trainings ----------------------------------------------------------------------------------------


class Learner:
    """A network and the digits it learns."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.images, self.targets = Digits().split("train")

    def loss_sum(self, samples: Tensor) -> Tensor:
        """Cross entropy over `samples`."""
        return nn.functional.cross_entropy(
            self.model(self.images[samples]), self.targets[samples], reduction="sum"
        )

    def accuracy(self, images: Tensor, targets: Tensor) -> float:
        """Share of right answers, in per cent."""
        with torch.no_grad():
            return 100 * float((self.model(images).argmax(1) == targets).double().mean())


def network(kind: str) -> nn.Module:
    """Seven layers of 288 to 36,864 weights, or four equal ones."""
    if kind == "cnn":
        return nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 48, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Conv2d(48, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 128),
            nn.ReLU(),
            nn.Linear(128, 32),
            nn.ReLU(),
            nn.Linear(32, 10),
        )
    squares = [part for _ in range(4) for part in (nn.Linear(64, 64), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *squares, nn.Linear(64, 10))


def initial(kind: str, seed: int) -> nn.Module:
    """A network whose weights depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return network(kind)


def strategy(family: str, how: str, kind: str, schedule: Schedule) -> LGreco:
    """The strategy of an arm."""
    start = schedule.steps + 1 if how == "dense" else schedule.start
    times = {"start": start, "period": schedule.period, "window": schedule.window}
    options: dict[str, Any] = {"family": family, "minimum": MINIMUM[kind], **times, **HOW.get(how, {})}
    return LGreco(LGrecoOptions(**options))


def descend(model: nn.Module, seed: int, steps: int, gradient: Callable[[Tensor], object]) -> None:
    """Train by SGD with momentum, the learning rate falling to zero as a cosine."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    count = len(Digits().split("train").inputs)
    done = epoch = 0
    while done < steps:
        for samples in batches(seed, epoch, count, BATCH):
            if done == steps:
                return
            gradient(samples)
            optimizer.step()
            schedule.step()
            done += 1
        epoch += 1


def train(item: tuple[str, str, str, str, int]) -> dict[str, float]:
    """Train one arm from one seed; the figures that a job would have, and the accuracies."""
    size, kind, family, how, seed = item
    torch.set_num_threads(1)
    schedule = SCHEDULES[size]
    first = initial(kind, seed)

    def work(group: Collective) -> tuple[nn.Module, dict[str, float]]:
        learner = Learner(copy.deepcopy(first))
        session = strategy(family, how, kind, schedule).open(group, seed)
        descend(learner.model, seed, schedule.steps, lambda samples: session.gradient(learner, samples))
        found = dict(session.metrics())
        for name in ("validation", "test"):
            found[name] = learner.accuracy(*Digits().split(name))
        return learner.model, found

    ranks = Meeting(RANKS).run(work)
    weights = [nn.utils.parameters_to_vector(model.parameters()) for model, _ in ranks]
    if not all(torch.equal(weights[0], other) for other in weights[1:]):
        raise RuntimeError(f"the ranks of {item} came apart")
    return ranks[0][1]


def quality(run: Run) -> list[Record]:
    """Train all arms, seed by seed."""
    arms = SMOKE if run.size == "smoke" else ARMS
    items = [(run.size, kind, *arm, seed) for seed in range(run.seeds) for kind in arms for arm in arms[kind]]
    with nullcontext(map) if run.size == "smoke" else each_core(run) as spread:
        found = dict(zip(items, track(spread(train, items), "trainings", total=len(items)), strict=True))
    records: list[Record] = []
    for kind, chosen in arms.items():
        by_arm = {arm: [found[run.size, kind, *arm, seed] for seed in range(run.seeds)] for arm in chosen}
        dense = by_arm.get(("powersgd", "dense"))
        for (family, how), ones in by_arm.items():
            if how == "dense":
                continue
            uniform = by_arm[family, "uniform"]
            title = f"{kind}, {FAMILIES[family]}, {how}"
            records.append(accurate(title, ones, uniform, dense))
            if how != "uniform":
                records.append(small(title, ones, uniform, kind, family, how))
    return records


def accurate(
    title: str,
    ones: Sequence[Mapping[str, float]],
    uniform: Sequence[Mapping[str, float]],
    dense: Sequence[Mapping[str, float]] | None,
) -> Record:
    """Test accuracy beside the uniform setting's and no compression's."""
    ours, theirs = [one["test"] for one in ones], [one["test"] for one in uniform]
    peers = {} if ones is uniform else {"uniform": fmean(theirs)}
    notes: list[str] = []
    if ones is not uniform:
        notes.append(f"{written(ours, theirs)} to uniform")
    if dense is not None:
        peers["dense"] = fmean(one["test"] for one in dense)
        notes.append(f"{written(ours, [one['test'] for one in dense])} to dense")
    goal = {} if ones is uniform else {"goal": "interval to uniform reaches 0"}
    return Record(
        claim=f"{title}: as accurate as uniform" if ones is not uniform else f"{title}: accuracy",
        metric="test accuracy, %",
        value=fmean(ours),
        spread=quartiles(ours),
        seeds=len(ours),
        peers=peers,
        holds=None if ones is uniform else interval(ours, theirs)[1] >= 0,
        note="; ".join(notes),
        details={"trainings": list(ones)},
        **goal,
    )


def small(
    title: str,
    ones: Sequence[Mapping[str, float]],
    uniform: Sequence[Mapping[str, float]],
    kind: str,
    family: str,
    how: str,
) -> Record:
    """Bytes beside the uniform setting's and no compression's, in the adapted phase."""
    now, against = "compression/bytes_per_step", "compression/ratio_now"
    ratios = [theirs[now] / one[now] for one, theirs in zip(ones, uniform, strict=True)]
    aimed = kind == "cnn" and how == "l2" and family in ("powersgd", "topk")
    use = [one["compression/error_use"] for one in ones]
    last = [one["compression/against_uniform"] for one in ones]
    return Record(
        claim=f"{title}: fewer bytes than uniform",
        metric="uniform's bytes / its own",
        value=fmean(ratios),
        spread=quartiles(ratios),
        seeds=len(ratios),
        peers={"dense bytes / its own": fmean(one[against] for one in ones)},
        goal="> 1" if aimed else "",
        holds=min(ratios) > 1 if aimed else None,
        note=f"of the compressed layers alone, last decision: {fmean(last):.2f}; {fmean(use):.0%} of the "
        f"allowed error used; dense bytes / uniform's: {fmean(one[against] for one in uniform):.1f}",
    )


def interval(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of paired differences, Student's: seeds are too few for a bootstrap."""
    differences = np.subtract(ours, theirs)
    if len(differences) < 2:
        return -math.inf, math.inf
    half = float(student.ppf(0.975, len(differences) - 1)) * stdev(differences.tolist())
    half /= math.sqrt(len(differences))
    return float(differences.mean()) - half, float(differences.mean()) + half


def written(ours: Sequence[float], theirs: Sequence[float]) -> str:
    low, high = interval(ours, theirs)
    return f"{fmean(ours) - fmean(theirs):+.2f} ({low:+.2f} to {high:+.2f})"


# The planner --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tables:
    """A made-up network: (L, K) errors and bytes of its layers, and the reference's index."""

    errors: NDArray[np.float64]
    costs: NDArray[np.float64]
    reference: int

    @classmethod
    def drawn(cls, layers: int, settings: int, seed: int) -> Tables:
        """Layers of sizes over three decades whose errors fall as powers of the bytes spent."""
        rng = np.random.default_rng(seed)
        sizes = 10 ** rng.uniform(3, 6, (layers, 1))
        shares = np.geomspace(0.001, 0.1, settings)[None]
        decay = rng.uniform(0.1, 1.0, (layers, 1))
        norms = np.exp(rng.normal(0, 1, (layers, 1)))
        return cls(norms * (shares / shares.min()) ** -decay, np.ceil(8 * sizes * shares), settings // 2)

    @property
    def budget(self) -> float:
        """The reference's error."""
        return math.fsum(self.errors[:, self.reference])


def exact(tables: Tables, patience: float) -> tuple[float, float]:
    """What an integer programme costs at most, and at least: the same where it was solved."""
    layers, settings = tables.errors.shape
    at = np.arange(layers * settings)
    one_each = coo_array((np.ones(len(at)), (at // settings, at)))
    rows = vstack([one_each, coo_array(tables.errors.reshape(1, -1) / tables.budget)])
    lower = np.r_[np.ones(layers), 0.0]
    found = milp(
        tables.costs.ravel(),
        integrality=np.ones(len(at)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(rows.tocsr(), lower, np.ones(layers + 1)),
        options={"time_limit": patience, "mip_rel_gap": 1e-7},
    )
    return float(found.fun) if found.x is not None else math.inf, float(found.mip_dual_bound)


def planner(run: Run) -> list[Record]:
    """Time the planner and the exact solver on the same tables."""
    records: list[Record] = []
    patience = 5.0 if run.size == "smoke" else 20.0
    for layers, settings in INSTANCES[:1] if run.size == "smoke" else INSTANCES:
        ours: list[float] = []
        theirs: list[float] = []
        above: list[float] = []
        gains: list[float] = []
        solved = 0
        for seed in range(min(run.seeds, 5)):
            tables = Tables.drawn(layers, settings, seed)
            begun = time.process_time()
            made = plan(list(tables.errors), list(tables.costs), [tables.reference] * layers)
            planned = time.process_time()
            cost, bound = exact(tables, patience)
            ours.append(planned - begun)
            theirs.append(time.process_time() - planned)
            above.append(made.cost / bound)
            gains.append(made.uniform_cost / made.cost)
            solved += cost <= bound * (1 + 1e-5)
        records.append(
            Record(
                claim=f"planning {layers} layers of {settings} settings",
                metric="processor seconds, median",
                value=median(ours),
                spread=quartiles(ours),
                seeds=len(ours),
                peers={"exact solver": median(theirs)},
                goal="bytes within 1 % of the least",
                holds=max(above) <= 1.01,
                note=f"bytes {max(above) - 1:.2%} above the least, at worst; {fmean(gains):.1f} times fewer "
                f"than uniform; exact solver ended {solved} of {len(ours)} in {patience:.0f} s",
                details={"cost_over_bound": above, "seconds": ours, "exact_seconds": theirs},
            )
        )
    return records


# Overhead -----------------------------------------------------------------------------------------


def overhead(run: Run) -> list[Record]:
    """The part of a training in which gradients are looked at and settings chosen."""
    smoke = run.size == "smoke"
    schedule = Schedule(8, 0, 4, 2) if smoke else Schedule(200, 0, 100, 10)
    return [
        costly(family, [share(family, schedule, seed) for seed in range(1 if smoke else 3)], schedule)
        for family in (["powersgd"] if smoke else FAMILIES)
    ]


def share(family: str, schedule: Schedule, seed: int) -> float:
    """Processor seconds of decisions over those of the training, all ranks together."""
    first = initial("cnn", seed)

    def work(group: Collective) -> float:
        learner = Learner(copy.deepcopy(first))
        compression = Compression(strategy(family, "l2", "cnn", schedule).rules(), group, seed)
        deciding = 0.0

        def gradient(samples: Tensor) -> None:
            nonlocal deciding
            _, used = shard_sums(learner, samples, group)
            unit = len(samples) / group.size
            given = {name: each.grad / unit for name, each in used if each.grad is not None}
            means = compression.exchange(given)
            begun = time.thread_time()
            compression.end_step()
            deciding += time.thread_time() - begun
            for name, each in used:
                each.grad = means[name]

        descend(learner.model, seed, schedule.steps, gradient)
        return deciding

    begun = time.process_time()
    deciding = sum(Meeting(RANKS).run(work))
    return deciding / (time.process_time() - begun)


def costly(family: str, shares: Sequence[float], schedule: Schedule) -> Record:
    """The record of a family."""
    return Record(
        claim=f"{FAMILIES[family]}: deciding takes little of a training",
        metric="% of a training's processor time",
        value=100 * fmean(shares),
        spread=quartiles([100 * each for each in shares]),
        seeds=len(shares),
        goal="< 1 %",
        holds=fmean(shares) < 0.01,
        note=f"a decision every {schedule.period} steps, of {schedule.window} steps' gradients; statistics, "
        "plan and record on each of four ranks",
        details={"shares": list(shares)},
    )


PARTS: Mapping[str, Callable[[Run], list[Record]]] = {
    "quality": quality,
    "planner": planner,
    "overhead": overhead,
}


def main() -> None:
    torch.set_num_threads(1)
    run = Run.from_command_line(__file__, __doc__, {"smoke": 1, "default": 5, "full": 10}, list(PARTS))
    run.publish([record for part in run.only or PARTS for record in PARTS[part](run)])


if __name__ == "__main__":
    main()
