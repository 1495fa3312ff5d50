"""Does the functional key tell functions apart, and nothing else? What does it cost?

`classes`: all 15,625 cells of NAS-Bench-201, built as torch networks and hashed, against the classes that
algebra gives (tests/plugins/functional_hash/symbolic.py, which runs no network): with fresh weights, with
fresh weights and BatchNorm's eps at 0, and as trained. `time`: a hash of a cell, and its share of training
that cell. `graphs`: the cells of NAS-Bench-101 with up to six vertices, and their canonical forms.
`programs`: evolution in the space automl-zero; how many trainings each tier leaves of the same proposals.
Times are of the processor, not of the clock, so that other work on the machine counts little.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _compare import quartiles
from _record import Record, Run
from torch import nn

sys.path.append(str(Path(__file__).parents[1]))  # the algebra lies with the tests

from orchestrate.core import (
    Candidate,
    Goal,
    NetworkProbe,
    Observation,
    SearchProblem,
    Shape,
    digest,
    enumerate_candidates,
)
from orchestrate.core.graphs import canonical_graph
from orchestrate.core.registry import Registry
from orchestrate.core.testing.trial import LocalTrial
from orchestrate.plugins.automl_zero.program import AutoMLZeroProgram, AutoMLZeroProgramOptions
from orchestrate.plugins.automl_zero.space import AutoMLZero, AutoMLZeroOptions
from orchestrate.plugins.functional_hash.fingerprint import FunctionalHash
from orchestrate.plugins.functional_hash.network import NetworkSettings, probe_network
from orchestrate.plugins.functional_hash.options import FunctionalHashOptions
from orchestrate.plugins.functional_hash.signature import keyed
from orchestrate.plugins.nasbench.network import CellBlock
from orchestrate.plugins.nasbench.space import NasBench201, NasBench201Options, cell
from orchestrate.plugins.nasbench.table import load
from orchestrate.plugins.samplers.evolution import Evolution, EvolutionOptions
from tests.core.test_graphs import nasbench101
from tests.plugins.functional_hash.symbolic import Rule, class_of

PARTS = ("classes", "time", "graphs", "programs")
EXPECTED: Mapping[Rule, int] = {"fresh": 5044, "scale-free": 4954, "trained": 5224}
TRACE: Mapping[Rule, int] = {"fresh": 0, "scale-free": 0, "trained": 2}
SIDE = 4
QUANTUM = 1e-6
GOAL_MS = 15.0


@dataclass(frozen=True)
class Named:
    """What the product made of a cell."""

    names: tuple[str, str]
    token: str | None


def main() -> None:
    torch.set_num_threads(1)
    run = Run.from_command_line(__file__, __doc__, {"smoke": 1, "default": 5, "full": 20}, PARTS)
    parts = run.only or PARTS
    records: list[Record] = []
    if "classes" in parts:
        for rule in EXPECTED:
            records += classes(rule, every=401 if run.size == "smoke" else 1)
    if "time" in parts:
        records += times(cells=10 if run.size == "smoke" else 300, trained=1 if run.size == "smoke" else 8)
    if "graphs" in parts:
        records.append(graphs(4 if run.size == "smoke" else 6))
    if "programs" in parts:
        proposals = {"smoke": 60, "default": 3000, "full": 10_000}[run.size]
        records += programs(run.seeds, proposals)
    run.publish(records)


# Classes ------------------------------------------------------------------------------------------


def classes(rule: Rule, every: int) -> list[Record]:
    """Hash the cells, and lay keys and classes over each other."""
    candidates = list(enumerate_candidates(NasBench201()))[::every]
    settings = NetworkSettings("trained" if rule == "trained" else "fresh", examples=4, trace=TRACE[rule])
    begun = time.process_time()
    named = {candidate: hashed(candidate, rule, settings) for candidate in candidates}
    seconds = time.process_time() - begun
    truth = {candidate: class_of(tuple(map(str, candidate.values())), rule) for candidate in candidates}
    mixed = sum(
        len(found) > 1 for found in grouped({c: named[c].names[0] for c in candidates}, truth).values()
    )
    by_class = grouped(truth, {c: named[c].names for c in candidates})
    split = sum(len({first for first, _ in found}) > 1 for found in by_class.values())
    pairs, apart, apart_on_both = missed(candidates, truth, named)
    keys = len({one.names[0] for one in named.values()})
    wanted = len(set(truth.values()))
    assert every > 1 or wanted == EXPECTED[rule]
    tokens = sum(one.token is not None for one in named.values())
    return [
        Record(
            f"NAS-Bench-201, {rule}: {len(candidates):,} cells have as many keys as classes",
            "keys",
            keys,
            (keys, keys),
            1,
            {"algebra": wanted},
            f"{wanted}, none mixed, none split",
            (keys, mixed, split) == (wanted, 0, 0),
            f"{mixed} keys mix classes, {split} classes are split; {tokens} cells are constant",
            {"milliseconds_a_cell": 1000 * seconds / len(candidates)},
        ),
        Record(
            f"NAS-Bench-201, {rule}: equal cells in another form aren't missed",
            "missed, of equal pairs",
            apart_on_both / max(1, pairs),
            (apart_on_both / max(1, pairs),) * 2,
            1,
            {"on one grid": apart / max(1, pairs)},
            "< 0.001",
            apart_on_both / max(1, pairs) < 0.001,
            f"{pairs} pairs of different structural forms",
        ),
    ]


def hashed(candidate: Candidate, rule: Rule, settings: NetworkSettings) -> Named:
    """The key's two names for a real network of the cell, small enough for 15,625 of them."""

    def build() -> nn.Module:
        built = CellBlock(cell(candidate), 3)
        if rule == "scale-free":
            for module in built.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eps = 1e-24
        return built

    signature = probe_network(NetworkProbe(build, (3, SIDE, SIDE)), settings)
    return Named(keyed("", signature.values, QUANTUM), signature.token)


def grouped(names: Mapping[Candidate, Any], others: Mapping[Candidate, Any]) -> dict[Any, set[Any]]:
    """The others' names under each name."""
    found: dict[Any, set[Any]] = defaultdict(set)
    for candidate, name in names.items():
        found[name].add(others[candidate])
    return found


def missed(
    candidates: Sequence[Candidate], truth: Mapping[Candidate, Any], named: Mapping[Candidate, Named]
) -> tuple[int, int, int]:
    """Pairs of equal cells in different structural forms: how many, missed on one grid, on both."""
    space = NasBench201()
    members: dict[Any, dict[str, Candidate]] = defaultdict(dict)
    for candidate in candidates:
        members[truth[candidate]].setdefault(digest(space.canonical(candidate)), candidate)
    pairs = apart = both = 0
    for group in members.values():
        first, *others = group.values()
        for other in others:
            pairs += 1
            one, two = named[first].names, named[other].names
            apart += one[0] != two[0]
            both += one[0] != two[0] and one[1] != two[1]
    return pairs, apart, both


# Time ---------------------------------------------------------------------------------------------


class Larger(NasBench201):
    """The space, its cells hashed on 16 x 16."""

    def probe(self, candidate: Candidate, shape: Shape) -> NetworkProbe:
        return NetworkProbe(lambda: CellBlock(cell(candidate), 4), (4, 16, 16))


def times(cells: int, trained: int) -> list[Record]:
    """Time the hash of a cell, as a job has it and on 16 x 16, and the training of its network."""
    options = NasBench201Options(width=8, depth=1)
    space, larger = NasBench201(options), Larger(options)
    chosen = random.Random(0).sample(list(enumerate_candidates(space)), cells)
    registry = Registry.discover()
    task = registry.get("task", "digits").plugin()
    hashing = FunctionalHash(FunctionalHashOptions(isolate=False))
    own, spent = (
        [1000 * cpu(lambda one=one, where=where: hashing.compute(one, where, task)) for one in chosen][1:]
        for where in (space, larger)
    )
    train = registry.get("program", "train").plugin
    program = train(train.Options(epochs=3))
    training: list[float] = []
    for one in chosen[:trained]:
        with tempfile.TemporaryDirectory() as folder:
            trial = LocalTrial(one, space, task, Path(folder))
            training.append(1000 * cpu(lambda trial=trial: program.run(trial)))
    median = statistics.median(own)
    share = median / statistics.median(training)
    tabulated = statistics.median(load("cifar10")[one].seconds for one in chosen)
    return [
        Record(
            "A NAS-Bench-201 cell is hashed in milliseconds",
            "ms, of 16 x 16",
            statistics.median(spent),
            quartiles(spent),
            len(spent),
            {"of 8 x 8, as the space asks for": median},
            f"< {GOAL_MS:g}",
            statistics.median(spent) < GOAL_MS,
            "4 examples of 4 channels, all tiers, semantics trained, 2 steps of trace; processor time",
        ),
        Record(
            "Hashing costs little beside training: 3 epochs of one small cell's network on digits",
            "share of a training",
            share,
            (share, share),
            len(training),
            {"of the benchmark's own training": median / 1000 / tabulated},
            "< 0.01",
            share < 0.01,
            f"a training takes {statistics.median(training) / 1000:.1f} s of processor time",
        ),
    ]


def cpu(action: Callable[[], object]) -> float:
    """Seconds of processor time."""
    begun = time.process_time()
    action()
    return time.process_time() - begun


# Graphs -------------------------------------------------------------------------------------------


def graphs(most: int) -> Record:
    """Count the canonical forms of NAS-Bench-101's cells with 2 to `most` vertices."""
    begun = time.process_time()
    cells = [list(nasbench101(vertices)) for vertices in range(2, most + 1)]
    counts = [len({canonical_graph(labels, edges) for labels, edges in one}) for one in cells]
    wanted = [1, 6, 84, 2441, 62010][: len(counts)]
    total = sum(map(len, cells))
    return Record(
        f"NAS-Bench-101: {total:,} written cells of 2 to {most} vertices have as many forms as graphs",
        "forms",
        sum(counts),
        (sum(counts),) * 2,
        1,
        {"published": sum(wanted)},
        ", ".join(f"{count:,}" for count in wanted),
        counts == wanted,
        f"found {', '.join(f'{count:,}' for count in counts)}",
        {"milliseconds_a_cell": 1000 * (time.process_time() - begun) / total},
    )


# Programs -----------------------------------------------------------------------------------------


def programs(seeds: int, proposals: int) -> list[Record]:
    """Evolve programs, and count what each tier would have trained of the same proposals."""
    found = [evolve(seed, proposals) for seed in range(seeds)]
    counts = np.array(
        [[len(one[tier]) for tier in ("exact", "structural", "functional")] for one, _, _ in found]
    )
    factor = counts[:, 0] / counts[:, 2]
    over_structure = counts[:, 1] / counts[:, 2]
    shares = [hashing / training for _, hashing, training in found]
    return [
        Record(
            f"automl-zero, {proposals:,} proposals of evolution: trainings that the functional tier leaves",
            "trainings, exact / functional",
            float(np.median(factor)),
            quartiles(factor.tolist()),
            seeds,
            {
                "none / exact": float(np.median(proposals / counts[:, 0])),
                "exact / structural": float(np.median(counts[:, 0] / counts[:, 1])),
                "structural / functional": float(np.median(over_structure)),
            },
            ">= 2 (2 to 10 in arXiv 2302.05433)",
            bool(np.median(factor) >= 2),
            f"median trainings by tier: {', '.join(f'{n:,.0f}' for n in np.median(counts, axis=0))}",
            {"counts": counts.tolist()},
        ),
        Record(
            "automl-zero: what hashing a program costs, beside training it on 10 problems at once",
            "share of a training",
            float(np.median(shares)),
            quartiles(shares),
            seeds,
            note="60 steps in the hash, 600 in a training (500 of learning): tiny trainings, worth it "
            "above this hit rate",
        ),
    ]


def evolve(seed: int, proposals: int) -> tuple[dict[str, set[str]], float, float]:
    """Run evolution without a scheduler. Scores are deterministic, so the trajectory is that of no cache.

    Returns the keys met by tier, and the mean seconds of a hash and of a training.
    """
    space = AutoMLZero(AutoMLZeroOptions())
    program = AutoMLZeroProgram(AutoMLZeroProgramOptions(problems=10, examples=500))
    hashing = FunctionalHash(FunctionalHashOptions(isolate=False))
    task = Registry.discover().get("task", "digits").plugin()
    sampler = Evolution(EvolutionOptions(population=100, tournament=10))
    sampler.start(SearchProblem(space, (Goal("fitness", "maximize"),), seed, proposals))
    met: dict[str, set[str]] = defaultdict(set)
    scores: dict[str, float] = {}
    hashed_for = trained_for = 0.0
    for number in range(proposals):
        candidate = sampler.ask(number)
        begun = time.process_time()
        made = hashing.compute(candidate, space, task)
        hashed_for += time.process_time() - begun
        for key in made.keys:
            met[key.tier].add(key.digest)
        name = made.keys[-1].digest
        if name not in scores:
            begun = time.process_time()
            trial = LocalTrial(candidate, space, task, Path("unused"))
            scores[name] = program.run(trial).metrics["fitness"]
            trained_for += time.process_time() - begun
        sampler.tell(number, candidate, Observation("finished", {"fitness": scores[name]}))
    return dict(met), hashed_for / proposals, trained_for / len(scores)


if __name__ == "__main__":
    main()
