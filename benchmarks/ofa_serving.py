"""What a Once-for-All supernet is good for once it is trained: predicting, searching, serving limits.

Handwritten digits (8x8), and with --full Fashion-MNIST. Searches are on validation accuracy; networks
that are compared are scored on the test split. ofa.py compares how supernets are trained.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _compare import compare, quartiles
from _ofa import FEWEST, SHRINKING, Bench, accuracies, main
from _record import Record

from orchestrate.core import Candidate, Program
from orchestrate.core.registry import Registry
from orchestrate.core.testing import LocalTrial
from orchestrate.plugins.ofa.network import Network
from orchestrate.plugins.ofa.options import PredictOptions
from orchestrate.plugins.ofa.predictor import Predictor, make_predictor, noise_ceiling, quality
from orchestrate.plugins.ofa.scoring import Score, calibrated, score_alone, score_many
from orchestrate.plugins.ofa.search import CostModel, Limits, search
from orchestrate.plugins.ofa.supernet import Supernet

TARGETS = 40
"""Networks that the paper's comparison of costs is made for."""


@dataclass(frozen=True)
class Measured:
    """Random sub-nets of a supernet and how they score in validation. `seconds`: what scoring took."""

    chosen: list[Candidate]
    found: list[Score]
    seconds: float

    @property
    def scores(self) -> list[float]:
        """Accuracies."""
        return [one.accuracy for one in self.found]

    @property
    def likelihoods(self) -> list[float]:
        """Mean cross entropies, negated."""
        return [-one.metrics["loss"] for one in self.found]

    @property
    def ceiling(self) -> float:
        """Of rank correlations with the accuracies, by two halves of the images."""
        halves = [[sum(one.correct[start::2]) for one in self.found] for start in (0, 1)]
        return noise_ceiling(*halves)


TABLES: dict[tuple[str, int], Measured] = {}


def measured(bench: Bench, seed: int) -> Measured:
    """The sub-nets that predictors learn from, and behind them those that predictors are judged by."""
    key = (bench.setting.name, seed)
    if key not in TABLES:
        chosen = bench.draw(bench.setting.table[-1] + bench.setting.held, 100 + seed)
        begun = time.process_time()
        found = score_many(bench.trained(SHRINKING, seed).supernet, chosen, bench.images)
        TABLES[key] = Measured(chosen, found, time.process_time() - begun)
    return TABLES[key]


def learned(bench: Bench, name: str, chosen: Sequence[Candidate], scores: Sequence[float]) -> Predictor:
    """A predictor that has seen these sub-nets."""
    options = PredictOptions.model_validate({"supernet": "none", "epochs": 5 if bench.smoke else 200})
    made = make_predictor(name, bench.space, bench.shape, options)
    made.fit(chosen, np.array(scores))
    return made


def predictor(bench: Bench) -> list[Record]:
    """Rank correlation with held-out accuracies, by size of the table."""
    sizes, held = bench.setting.table, bench.setting.held
    table: dict[int, dict[str, list[float]]] = {size: {} for size in sizes}
    smoother: dict[str, list[float]] = {"mlp": [], "validation to test": []}
    for seed in range(bench.seeds):
        known = measured(bench, seed)
        unseen, truth, likely = known.chosen[-held:], known.scores[-held:], known.likelihoods
        tests = score_many(bench.trained(SHRINKING, seed).supernet, unseen, bench.test)
        agreement = quality(truth, [one.accuracy for one in tests])["spearman"]
        for size, found in table.items():
            for name in ("mlp", "ridge", "macs"):
                made = learned(bench, name, known.chosen[:size], known.scores[:size])
                found.setdefault(name, []).append(quality(made.predict(unseen), truth)["spearman"])
            found.setdefault("validation to test", []).append(agreement)
            found.setdefault("noise ceiling", []).append(known.ceiling)
        made = learned(bench, "mlp", known.chosen[: sizes[-1]], likely[: sizes[-1]])
        smoother["mlp"].append(quality(made.predict(unseen), likely[-held:])["spearman"])
        tested = [-one.metrics["loss"] for one in tests]
        smoother["validation to test"].append(quality(likely[-held:], tested)["spearman"])
    records: list[Record] = []
    for size, found in table.items():
        last, mlp = size == sizes[-1] and bench.seeds >= FEWEST, found["mlp"]
        records.append(
            Record(
                claim=f"{bench.setting.name}: the predictor orders unseen sub-nets, after {size} measured",
                metric="Spearman, held-out sub-nets",
                value=float(np.mean(mlp)),
                spread=quartiles(mlp),
                seeds=bench.seeds,
                peers={name: float(np.mean(values)) for name, values in found.items() if name != "mlp"},
                goal="at least 0.8, and above macs" if last else "",
                holds=bool(np.mean(mlp) >= 0.8 and np.mean(mlp) > np.mean(found["macs"])) if last else None,
                details=found,
            )
        )
    records.append(
        Record(
            claim=f"{bench.setting.name}: the predictor orders unseen sub-nets by their cross entropy, "
            f"after {sizes[-1]} measured",
            metric="Spearman, held-out sub-nets",
            value=float(np.mean(smoother["mlp"])),
            spread=quartiles(smoother["mlp"]),
            seeds=bench.seeds,
            peers={"validation to test": float(np.mean(smoother["validation to test"]))},
            note="less noisy than accuracies on the same images",
            details=smoother,
        )
    )
    return records


def limit(model: CostModel, share: float) -> Limits:
    """A limit at that share of the way from the fewest multiply-accumulates to the most."""
    low, high = (model.of(one).macs for one in (model.space.smallest, model.space.largest))
    return Limits(macs=low + share * (high - low))


def searching(bench: Bench) -> list[Record]:
    """Evolution against random search, on measured accuracy, at equal evaluations."""
    population, generations = bench.setting.population, bench.setting.generations
    records: list[Record] = []
    model = CostModel(bench.space, bench.shape)
    for share in bench.setting.shares:
        found: dict[str, list[float]] = {"evolution": [], "random search": [], "a random sub-net": []}
        tests: dict[str, list[float]] = {"evolution": [], "random search": []}
        seconds: list[float] = []
        count = 0
        for seed in range(bench.seeds):
            supernet = bench.trained(SHRINKING, seed).supernet

            def fitness(chosen: Sequence[Candidate], net: Supernet = supernet) -> list[float]:
                return accuracies(net, chosen, bench.images)

            limits = limit(model, share)
            begun = time.process_time()
            ours = search(model, fitness, limits, population=population, generations=generations, seed=seed)
            seconds.append(time.process_time() - begun)
            count = len(ours.ranked)
            drawn = search(model, fitness, limits, population=count, generations=0, seed=seed + 1000)
            found["evolution"].append(ours.ranked[0][1])
            found["random search"].append(drawn.ranked[0][1])
            found["a random sub-net"].append(float(np.mean([value for _, value in drawn.ranked])))
            best, other = accuracies(supernet, [ours.best, drawn.best], bench.test)
            tests["evolution"].append(best)
            tests["random search"].append(other)
        gain = np.array(found["evolution"]) - np.array(found["random search"])
        test = np.array(tests["evolution"]) - np.array(tests["random search"])
        records.append(
            Record(
                claim=f"{bench.setting.name}: evolution is as good as random search at {share:.0%} of MACs",
                metric="validation accuracy of the best",
                value=float(np.mean(found["evolution"])),
                spread=quartiles(found["evolution"]),
                seeds=bench.seeds,
                peers={name: float(np.mean(found[name])) for name in ("random search", "a random sub-net")},
                goal="not below random search" if bench.seeds >= FEWEST else "",
                holds=bool(gain.mean() >= 0) if bench.seeds >= FEWEST else None,
                note=f"gain {gain.mean():+.4f} ({gain.min():+.4f} to {gain.max():+.4f}), on test "
                f"{test.mean():+.4f}; {count} evaluations in {np.mean(seconds):.0f} s",
                details={"validation": found, "test": tests, "seconds": seconds},
            )
        )
    return records


def constraints(bench: Bench) -> list[Record]:
    """The headline: N constraints from one supernet against N networks trained for themselves.

    As `orchestrate specialize` does it: once a supernet, measured sub-nets and a predictor; then, for each
    constraint, a search on the predictor, the best five measured again, the winner cut out.
    """
    shares = (0.3,) if bench.smoke else (0.1, 0.25, 0.5, 0.75)
    model = CostModel(bench.space, bench.shape)
    served: list[float] = []
    alone: list[float] = []
    seconds: dict[str, list[float]] = {"once": [], "serving": [], "training": []}
    for seed in range(bench.seeds):
        trained, known = bench.trained(SHRINKING, seed), measured(bench, seed)
        begun = time.process_time()
        ours = learned(bench, "mlp", known.chosen, known.scores)
        seconds["once"].append(trained.seconds + known.seconds + time.process_time() - begun)
        for share in shares:
            begun = time.process_time()
            population, generations = (8, 1) if bench.smoke else (100, 30)
            found = search(
                model,
                ours.predict,
                limit(model, share),
                population=population,
                generations=generations,
                seed=seed,
            )
            first = [candidate for candidate, _ in found.ranked[:5]]
            best = first[int(np.argmax(accuracies(trained.supernet, first, bench.images)))]
            network = calibrated(trained.supernet, best, bench.images)
            seconds["serving"].append(time.process_time() - begun)
            served.append(score_alone(network, bench.test).accuracy)
            begun = time.process_time()
            alone.append(from_scratch(bench, best, seed))
            seconds["training"].append(time.process_time() - begun)
    once, each, one = (float(np.mean(seconds[what])) for what in ("once", "serving", "training"))
    # Networks from one supernet are no independent samples: the seeds are.
    gains = (np.array(served) - np.array(alone)).reshape(bench.seeds, -1).mean(axis=1)
    ahead = compare(gains.tolist(), [0.0] * bench.seeds)
    name = bench.setting.name
    return [
        Record(
            claim=f"{name}: another constraint costs a search, not a training",
            metric="seconds for each further constraint",
            value=each,
            spread=quartiles(seconds["serving"]),
            seeds=len(served),
            peers={"training the network": one, "once: supernet and predictor": once},
            goal="below training the network",
            holds=each < one,
            note=f"{TARGETS} constraints: {once + TARGETS * each:.0f} s with the supernet's training, "
            f"{TARGETS * one:.0f} s without; {_break_even(once, each, one)}",
            details=seconds,
        ),
        Record(
            claim=f"{name}: what is cut out is as good as the same architecture trained alone",
            metric="test accuracy of the networks found for the constraints",
            value=float(np.mean(served)),
            spread=quartiles(served),
            seeds=len(served),
            peers={"trained alone, as many epochs as the full net": float(np.mean(alone))},
            goal="not more than 0.01 below",
            holds=ahead.mean >= -0.01,
            note=f"difference {ahead.mean:+.4f} ({ahead.low:+.4f} to {ahead.high:+.4f}); no fine-tuning",
            details={"served": served, "alone": alone},
        ),
    ]


def _break_even(once: float, each: float, one: float) -> str:
    return f"the supernet pays from {once / (one - each):.0f} on" if one > each else "it never pays"


def from_scratch(bench: Bench, candidate: Candidate, seed: int) -> float:
    """Train a candidate's own network as long as the full net was; test accuracy."""
    training = {key: bench.setting.training[key] for key in ("clip", "augment", "batch_size")}
    options = {**training, "epochs": bench.setting.epochs, "label_smoothing": 0.1, "weight_decay": 3e-5}
    program = Registry.discover().create(Program, "train", options)
    with tempfile.TemporaryDirectory() as folder:
        trial = LocalTrial(candidate, bench.space, bench.task, Path(folder), seed=seed)
        network = program.run(trial).model
    assert isinstance(network, Network)
    return score_alone(network.eval(), bench.test).accuracy


if __name__ == "__main__":
    parts = {"predictor": predictor, "search": searching, "constraints": constraints}
    main(__file__, __doc__, parts, (SHRINKING,))
