"""What does recall save a search, and what of it is the functional hash's?

`cifar10` and the like: regularised evolution over NAS-Bench-201's measured table. Each training is one of
the table's, drawn at random, at the table's own training time. Arms: without a memory (`none`); equal
candidates (`exact`), equal structures (`structural`), equal functions (`functional`), and the last with
three evaluations a class (`functional, M=3`). Peers, in the same loop: Optuna's recipe for duplicates
(the value of the last equal trial, found in the study) and PyGlove's deduplication (an equal candidate is
drawn again, up to 100 times, and never fed back). Compared at equal trainings and at equal simulated
time; the regret is that of the best candidate found, by the mean over all of the table's runs of it.
Differences are paired by seed.

`lookups`: time to decide on one candidate, keys to answer, in a catalog of a million classes.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import optuna
import torch
from _compare import paired, quartiles
from _peers import Redrawn
from _record import Record, Run
from functional_hash_counts import TRACE, hashed
from sqlalchemy import insert

from orchestrate.core import (
    Candidate,
    Goal,
    Key,
    Observation,
    Print,
    SearchProblem,
    SpaceExhausted,
    digest,
    enumerate_candidates,
)
from orchestrate.core.seeds import generator
from orchestrate.plugins.functional_hash.network import NetworkSettings
from orchestrate.plugins.nasbench.space import NasBench201
from orchestrate.plugins.nasbench.table import FACTS, Table, load
from orchestrate.plugins.samplers.evolution import Evolution, EvolutionOptions
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.engine import writing
from orchestrate.storage.ledger import JobDraft
from orchestrate.storage.models import ClassRow, EvaluationRow, NameRow, StageRow, TrialRow
from orchestrate.storage.recall.memory import Memory

PARTS = (*FACTS, "lookups")
SPACE = NasBench201()
POPULATION, TOURNAMENT = 30, 8
CLOSE = 0.001
"""A search is through when its best candidate's mean accuracy is so close to the table's best."""

TIERS = ("exact", "structural", "functional")


@dataclass(frozen=True)
class Arm:
    """How far candidates count as equal, and what happens to those that are."""

    tiers: Sequence[str] = ()
    evaluations: int = 1
    peer: str = ""


ARMS: Mapping[str, Arm] = {
    "none": Arm(),
    "exact": Arm(TIERS[:1]),
    "structural": Arm(TIERS[:2]),
    "functional": Arm(TIERS),
    "functional, M=3": Arm(TIERS, evaluations=3),
    "Optuna's recipe": Arm(peer="optuna"),
    "PyGlove's": Arm(peer="pyglove"),
}


@dataclass
class Trace:
    """One search: what it had after each training."""

    regrets: list[float] = field(default_factory=list[float])
    """After each training: what the best candidate so far lacks of the table's best mean accuracy."""
    times: list[float] = field(default_factory=list[float])
    """After each training: simulated seconds, hashing included."""
    proposals: int = 0
    hits: Counter[str] = field(default_factory=Counter[str])
    saved: float = 0.0
    hashing: float = 0.0
    exhausted: bool = False


class Keys:
    """The keys of cells, made when first asked for, and what that took."""

    def __init__(self) -> None:
        self._settings = NetworkSettings("trained", examples=4, trace=TRACE["trained"])
        self._known: dict[tuple[str, Candidate], str] = {}
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def __call__(self, tier: str, candidate: Candidate) -> str:
        if tier == "exact":
            return candidate.digest
        if (tier, candidate) not in self._known:
            begun = time.process_time()
            if tier == "structural":
                name = digest(["canonical", SPACE.canonical(candidate)])
            else:
                name = hashed(candidate, "trained", self._settings).names[0]
            self.seconds[tier].append(time.process_time() - begun)
            self._known[tier, candidate] = name
        return self._known[tier, candidate]

    def cost(self, tier: str) -> float:
        """Mean seconds of a key of that tier; the product computes it once for equal candidates."""
        return fmean(self.seconds[tier]) if self.seconds[tier] else 0.0


@cache
def best(dataset: Any) -> float:
    return max(mean(load(dataset), candidate) for candidate in enumerate_candidates(SPACE))


def mean(table: Table, candidate: Candidate) -> float:
    return fmean(table[candidate].accuracies)


class Search:
    """One search: the product's sampler in a loop of a few lines, since a job takes far longer."""

    def __init__(self, table: Table, arm: Arm, keys: Keys, seed: int) -> None:
        self.table, self.arm, self.keys, self.seed = table, arm, keys, seed
        self.trace = Trace()
        evolution = Redrawn if arm.peer == "pyglove" else Evolution
        self.sampler = evolution(EvolutionOptions(population=POPULATION, tournament=TOURNAMENT))
        self.sampler.start(SearchProblem(SPACE, (Goal("accuracy", "maximize"),), seed))
        self.results: dict[str, list[tuple[float, float]]] = {}  # by the strongest key: accuracy, seconds
        self.names: dict[str, str] = {}  # any key to the strongest one it led to
        self.study: list[tuple[dict[str, Any], float]] = []  # Optuna's: parameters and value of each trial
        self.top: tuple[float, float] = (-1.0, 1.0)  # best accuracy seen, and the regret of who has it
        self.hashed: set[str] = set()
        self.charged = 0.0  # seconds of hashing that are in the times already

    def run(self, trainings: int, seconds: float, proposals: int) -> Trace:
        trace = self.trace
        while trace.proposals < proposals:
            if len(trace.times) >= trainings and trace.times[-1] >= seconds:
                break
            try:
                candidate = self.sampler.ask(trace.proposals)
            except SpaceExhausted:
                trace.exhausted = True
                break
            accuracy = self.answer(candidate)
            if accuracy is None:
                accuracy = self.train(candidate)
            self.sampler.tell(trace.proposals, candidate, Observation("finished", {"accuracy": accuracy}))
            trace.proposals += 1
        return trace

    def answer(self, candidate: Candidate) -> float | None:
        if self.arm.peer == "optuna":
            found = next((value for params, value in reversed(self.study) if params == dict(candidate)), None)
            if found is not None:
                self.trace.hits["exact"] += 1
                self.trace.saved += self.table[candidate].seconds
            return found
        if not self.arm.tiers:
            return None
        strongest, tier = self.place(candidate)
        known = self.results.get(strongest, ())
        if len(known) < self.arm.evaluations:
            return None
        self.trace.hits[tier] += 1
        self.trace.saved += self.table[candidate].seconds
        return fmean(accuracy for accuracy, _ in known[: self.arm.evaluations])

    def place(self, candidate: Candidate) -> tuple[str, str]:
        """Name the candidate's class, and the tier that led to it; charge the keys that were needed."""
        names = {"exact": candidate.digest}
        if candidate.digest not in self.hashed:
            self.hashed.add(candidate.digest)
            for tier in self.arm.tiers[1:]:  # the cheapest first, as far as needed
                names[tier] = self.keys(tier, candidate)
                self.trace.hashing += self.keys.cost(tier)
                if names[tier] in self.names:
                    break
        led = next((tier for tier, name in names.items() if name in self.names), "exact")
        strongest = self.names.get(names[led], candidate.digest)
        for name in names.values():
            self.names.setdefault(name, strongest)
        return strongest, led

    def train(self, candidate: Candidate) -> float:
        record = self.table[candidate]
        rng = generator(self.seed, self.trace.proposals, 0)
        accuracy = record.accuracies[int(rng.integers(len(record.accuracies)))]
        told = accuracy
        if self.arm.peer == "optuna":
            self.study.append((dict(candidate), accuracy))
        elif self.arm.tiers:
            strongest = self.names.get(candidate.digest, candidate.digest)
            known = self.results.setdefault(strongest, [])
            known.append((accuracy, record.seconds))
            told = fmean(value for value, _ in known[: self.arm.evaluations])
        if told > self.top[0]:
            self.top = (told, best(self.table.dataset) - mean(self.table, candidate))
        before = self.trace.times[-1] if self.trace.times else 0.0
        spent, self.charged = self.trace.hashing - self.charged, self.trace.hashing
        self.trace.times.append(before + record.seconds + spent)
        self.trace.regrets.append(self.top[1])
        return told


def main() -> None:
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    run = Run.from_command_line(__file__, __doc__, {"smoke": 2, "default": 50, "full": 200}, PARTS)
    parts = run.only or PARTS
    records: list[Record] = []
    keys = Keys()
    for dataset in FACTS:
        if dataset in (parts if run.size != "smoke" else parts[:1]):
            records += searches(dataset, keys, run.seeds, 12 if run.size == "smoke" else 300)
    if "lookups" in parts:
        records.append(lookups({"smoke": 2_000, "default": 1_000_000, "full": 1_000_000}[run.size]))
    run.publish(records)


# Search -------------------------------------------------------------------------------------------


def searches(dataset: Any, keys: Keys, seeds: int, trainings: int) -> list[Record]:
    """One record an arm and question."""
    table = load(dataset)
    budget = trainings * fmean(table[candidate].seconds for candidate in enumerate_candidates(SPACE))
    traces: dict[str, list[Trace]] = {}
    for name, arm in ARMS.items():
        begun = time.perf_counter()
        traces[name] = [
            Search(table, arm, keys, seed).run(trainings, budget, 20 * trainings) for seed in range(seeds)
        ]
        print(f"{dataset}, {name}: {time.perf_counter() - begun:.0f} s", flush=True)
    records: list[Record] = []
    for name, found in traces.items():
        records += [
            equal_trainings(dataset, name, found, traces, trainings),
            equal_time(dataset, name, found, traces, budget),
            reaching(dataset, name, found, traces, trainings),
        ]
    records.append(hash_cost(dataset, traces["functional"]))
    return records


def equal_trainings(
    dataset: str, name: str, found: Sequence[Trace], traces: Mapping[str, Sequence[Trace]], trainings: int
) -> Record:
    regrets = [100 * at_training(trace, trainings) for trace in found]
    others = {
        other: [100 * at_training(one, trainings) for one in traces[other]] for other in ("none", "exact")
    }
    rates = {tier: fmean(trace.hits[tier] / trace.proposals for trace in found) for tier in TIERS}
    shown = ", ".join(f"{tier} {rate:.0%}" for tier, rate in rates.items() if rate) or "none"
    return Record(
        claim=f"{dataset}, {name}: after {trainings} trainings",
        metric="regret, % points",
        value=fmean(regrets),
        spread=quartiles(regrets),
        seeds=len(found),
        peers={other: fmean(values) for other, values in others.items() if other != name},
        note=f"hits: {shown}; {paired(regrets, others['none'])} to none; "
        f"{paired(regrets, others['exact'])} to exact",
        details={
            "hit_rate_by_tier": rates,
            "proposals": fmean(trace.proposals for trace in found),
            "saved_hours_net": fmean((trace.saved - trace.hashing) / 3600 for trace in found),
            "exhausted": sum(trace.exhausted for trace in found),
            "regrets": [round(value, 4) for value in regrets],
        },
    )


def equal_time(
    dataset: str, name: str, found: Sequence[Trace], traces: Mapping[str, Sequence[Trace]], budget: float
) -> Record:
    regrets = [100 * at_time(trace, budget) for trace in found]
    others = {other: [100 * at_time(one, budget) for one in traces[other]] for other in ("none", "exact")}
    return Record(
        claim=f"{dataset}, {name}: after {budget / 3600:.0f} simulated hours",
        metric="regret, % points",
        value=fmean(regrets),
        spread=quartiles(regrets),
        seeds=len(found),
        peers={other: fmean(values) for other, values in others.items() if other != name},
        note=f"{paired(regrets, others['none'])} to none; {paired(regrets, others['exact'])} to exact",
        details={"saved_hours_net": fmean((trace.saved - trace.hashing) / 3600 for trace in found)},
    )


def reaching(
    dataset: str, name: str, found: Sequence[Trace], traces: Mapping[str, Sequence[Trace]], trainings: int
) -> Record:
    counts = [reached(trace) for trace in found]
    through = [count for count in counts if count is not None and count <= trainings]
    known = [float(count or len(trace.times) + 1) for count, trace in zip(counts, found, strict=True)]
    peers = {
        other: median(float(reached(one) or len(one.times) + 1) for one in traces[other])
        for other in ("none", "exact")
        if other != name
    }
    return Record(
        claim=f"{dataset}, {name}: within {100 * CLOSE:g} % of the best accuracy",
        metric="trainings, median",
        value=median(known),
        spread=quartiles(known),
        seeds=len(found),
        peers=peers,
        note=f"{len(through)} of {len(found)} got there in {trainings} trainings",
    )


def hash_cost(dataset: str, found: Sequence[Trace]) -> Record:
    shares = [trace.hashing / trace.times[-1] for trace in found]
    return Record(
        claim=f"{dataset}: hashing costs little beside training",
        metric="hashing, share of the time",
        value=fmean(shares),
        spread=quartiles(shares),
        seeds=len(found),
        goal="< 0.01",
        holds=fmean(shares) < 0.01,
        note=f"{fmean(trace.saved / 3600 for trace in found):.0f} h of training saved by "
        f"{fmean(trace.hashing for trace in found):.1f} s of hashing; the key's probe is of a small cell",
    )


def at_training(trace: Trace, count: int) -> float:
    return trace.regrets[min(count, len(trace.regrets)) - 1]


def at_time(trace: Trace, seconds: float) -> float:
    done = int(np.searchsorted(trace.times, seconds, side="right"))
    return trace.regrets[max(0, done - 1)]


def reached(trace: Trace) -> int | None:
    return next((index for index, regret in enumerate(trace.regrets, 1) if regret <= CLOSE), None)


# Lookups ------------------------------------------------------------------------------------------


def lookups(classes: int) -> Record:
    """Time the reading side of a decision: three names to a class, its claims and evaluations."""
    with tempfile.TemporaryDirectory(prefix="orchestrate-benchmark-") as folder:
        catalog = Catalog.open(str(Path(folder, "catalog.db")))
        fill(catalog, classes)
        rng = np.random.default_rng(0)
        times: list[float] = []
        with writing(catalog.engine) as session:
            connection = session.connection()
            for index in rng.integers(1, classes + 1, size=1000):
                names = [digest([tier, int(index)]) for tier in TIERS]
                print_ = Print(
                    tuple(Key(tier, name) for tier, name in zip(TIERS, names, strict=True)), (1.0,)
                )
                begun = time.perf_counter()
                memory = Memory(connection, "m" * 32, "job")
                memory.load([print_], ())
                known, _ = memory.place(print_)
                memory.load_results([known], None)
                times.append(1000 * (time.perf_counter() - begun))
                assert len(known.evaluations) == 1
        catalog.close()
    return Record(
        claim=f"A look-up among {classes:,} classes (SQLite)",
        metric="milliseconds, median",
        value=median(times),
        spread=quartiles(times),
        seeds=len(times),
        goal="< 1",
        holds=median(times) < 1,
        note=f"99 % within {np.quantile(times, 0.99):.2f} ms; three keys a class",
    )


def fill(catalog: Catalog, classes: int, chunk: int = 20_000) -> None:
    """Make so many classes of three keys and one evaluation each, all of one trial."""
    ledger = catalog.create_job(JobDraft("filler", {}, "", 0, {}, ("search",)), "benchmark", 3600)
    now = time.time()
    with writing(catalog.engine) as session:
        connection = session.connection()
        trial = {"number": 0, "state": "finished", "candidate": {}, "digest": "", "seed": 0, "metrics": {}}
        stage = session.query(StageRow.id).scalar()
        more = {"stage_id": stage, "values": {}, "keys": [], "timings": {}, "created_at": datetime.now(UTC)}
        connection.execute(insert(TrialRow), [{**trial, **more}])
        for first in range(1, classes + 1, chunk):
            ids = range(first, min(first + chunk, classes + 1))
            common = {"memory": "m" * 32, "signature": [1.0], "live": True, "created_at": more["created_at"]}
            zeros = dict.fromkeys(("hits", "since", "floor", "checked", "split"), 0)
            connection.execute(
                insert(ClassRow),
                [{"id": one, "state": "open", "reason": "", "used": one, **common, **zeros} for one in ids],
            )
            connection.execute(
                insert(NameRow),
                [
                    {"memory": "m" * 32, "key": digest([tier, one]), "class_id": one, "tier": tier}
                    for one in ids
                    for tier in TIERS
                ],
            )
            evaluation = {"trial_id": 1, "job_id": ledger.job_id, "status": "finished", "at": now}
            result = {"metrics": {"loss": 1.0}, "values": {"loss": 1.0}, "seconds": 1.0}
            connection.execute(
                insert(EvaluationRow), [{"class_id": one, **evaluation, **result} for one in ids]
            )


if __name__ == "__main__":
    main()
