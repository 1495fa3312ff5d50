"""Once-for-All, scaled down: what progressive shrinking, calibration, sorting, predictors and search buy.

Real data, small networks: handwritten digits (8x8), and with --full Fashion-MNIST. All arms of a
comparison have equal sub-net passes; passes and optimiser steps are in the records' details. Accuracies
are of re-calibrated networks: on the test split where arms are compared, on validation inside a search.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _compare import quartiles
from _record import Record, Run

from orchestrate.core import Candidate, Program, SearchSpace, Split, Task
from orchestrate.core.registry import Registry
from orchestrate.core.seeds import generator
from orchestrate.core.testing import LocalTrial
from orchestrate.plugins.ofa import cost
from orchestrate.plugins.ofa.network import Network
from orchestrate.plugins.ofa.options import PredictOptions
from orchestrate.plugins.ofa.phases import corners
from orchestrate.plugins.ofa.predictor import make_predictor, quality, unique_candidates
from orchestrate.plugins.ofa.scoring import Images, calibrated, score_alone, score_many
from orchestrate.plugins.ofa.search import CostModel, Limits, search
from orchestrate.plugins.ofa.sorting import sort_inner
from orchestrate.plugins.ofa.supernet import Supernet, load_supernet, save_supernet

ARMS = ("progressive-shrinking", "warm-start", "scratch-distilled", "scratch")
PARTS = ("arms", "calibration", "sorting", "predictor", "search", "constraints", "throughput", "step")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Setting:
    """A data set with the options of its trainings."""

    name: str
    task: Mapping[str, Any]
    space: Mapping[str, Any]
    training: Mapping[str, Any]
    epochs: int


DIGITS = Setting(
    "digits",
    {"name": "digits"},
    {"name": "ofa-mobilenetv3", "preset": "tiny", "resolutions": [8]},
    {"clip": 5, "augment": {"shift": 1}, "batch_size": 50, "calibration_images": 500},
    epochs=16,
)
FASHION = Setting(
    "Fashion-MNIST",
    {"name": "fashion-mnist", "subset": 5000, "validation": 2000},
    {"name": "ofa-mobilenetv3", "preset": "small"},
    {"clip": 5, "augment": {"shift": 2, "flip": True}, "batch_size": 100, "calibration_images": 1000},
    epochs=8,
)
SMOKE = Setting(
    "digits",
    {"name": "digits", "validation": 0.1, "test": 0.8},
    DIGITS.space,
    {**DIGITS.training, "calibration_images": 50},
    epochs=1,
)


class Bench:
    """Makes what the parts share, once: data, space, and each arm's supernets."""

    def __init__(self, setting: Setting, seeds: int, folder: Path, smoke: bool) -> None:
        self.setting = setting
        self.seeds = seeds
        self.smoke = smoke
        self.folder = folder
        registry = Registry.discover()
        task, space = dict(setting.task), dict(setting.space)
        self.task = registry.create(Task, task.pop("name"), task)
        self.space: Any = registry.create(SearchSpace, space.pop("name"), space)
        self.shape = self.task.shape()
        self._registry = registry
        images = int(setting.training["calibration_images"])
        self.images = Images.of(self.task, CPU, calibration=images, calibration_batch=250)
        test: Split = self.task.split("test")
        self.test = Images(self.images.calibration, test.inputs.split(1000), test.targets.split(1000))
        self._trained: dict[tuple[str, int], tuple[Supernet, dict[str, float], Path]] = {}

    def trained(self, method: str, seed: int) -> tuple[Supernet, dict[str, float], Path]:
        """An arm's supernet, its final metrics, and the folder of its files."""
        if (method, seed) not in self._trained:
            options = {**self.setting.training, "method": method, "epochs": self.setting.epochs}
            options["validation_images"] = 100  # only the phases' own report is made from these
            program = self._registry.create(Program, "ofa-train", options)
            program.check(self.space, self.task)
            folder = self.folder / f"{method}-{seed}"
            trial = LocalTrial(Candidate(), self.space, self.task, folder, seed=seed)
            begun = time.perf_counter()
            metrics = {**program.run(trial).metrics, "seconds": time.perf_counter() - begun}
            path = trial.artifact("supernet")
            supernet = load_supernet(self.space, self.shape, path).eval()
            self._trained[method, seed] = (supernet, dict(metrics), folder)
            print(f"{method}, seed {seed}: {metrics['seconds']:.0f} s", flush=True)
        return self._trained[method, seed]

    def draw(self, count: int, seed: int) -> list[Candidate]:
        """Different random candidates."""
        return unique_candidates(self.space, count, generator(seed))


def accuracies(
    supernet: Supernet, chosen: Sequence[Candidate], images: Images, **options: Any
) -> list[float]:
    return [score.accuracy for score in score_many(supernet, chosen, images, **options)]


def arms(bench: Bench) -> list[Record]:
    """E1: the four arms' corner and random networks, at equal sub-net passes."""
    found: dict[str, list[float]] = {arm: [] for arm in ARMS}
    corner: dict[str, list[float]] = {arm: [] for arm in ARMS}
    passes: dict[str, float] = {}
    for seed in range(bench.seeds):
        random = bench.draw(4 if bench.smoke else 20, seed)
        for arm in ARMS:
            supernet, metrics, _ = bench.trained(arm, seed)
            passes[arm] = metrics["subnet_passes"]
            found[arm].append(float(np.mean(accuracies(supernet, random, bench.test))))
            corner[arm].append(
                float(np.mean(accuracies(supernet, list(corners(bench.space).values()), bench.test)))
            )
    ours, others = ARMS[0], ARMS[1:]
    records: list[Record] = []
    for what, values in (("mean of 20 random sub-nets", found), ("mean of the 8 corner nets", corner)):
        gain = np.array(values[ours]) - np.array(values["scratch"])
        records.append(
            Record(
                claim=f"{bench.setting.name}: progressive shrinking beats training everything from scratch",
                metric=f"test accuracy, {what}",
                value=float(np.mean(values[ours])),
                spread=quartiles(np.array(values[ours])),
                seeds=bench.seeds,
                peers={arm: float(np.mean(values[arm])) for arm in others},
                goal="above scratch",
                holds=bool(gain.mean() > 0),
                note=f"gain {gain.mean():+.4f} ({gain.min():+.4f} to {gain.max():+.4f})",
                details={"accuracies": values, "subnet_passes": passes},
            )
        )
    return records


def calibration(bench: Bench) -> list[Record]:
    """E3: what BatchNorm re-calibration is worth."""
    gains: list[float] = []
    with_it: list[float] = []
    for seed in range(bench.seeds):
        supernet, _, _ = bench.trained(ARMS[0], seed)
        chosen = bench.draw(4 if bench.smoke else 20, seed)
        on = float(np.mean(accuracies(supernet, chosen, bench.test)))
        off = float(np.mean(accuracies(supernet, chosen, bench.test, calibrate=False)))
        with_it.append(on)
        gains.append(on - off)
    return [
        Record(
            claim=f"{bench.setting.name}: sub-nets need re-calibrated BatchNorm statistics",
            metric="test accuracy, mean of 20 random sub-nets",
            value=float(np.mean(with_it)),
            spread=quartiles(np.array(with_it)),
            seeds=bench.seeds,
            peers={"not re-calibrated": float(np.mean(np.array(with_it) - np.array(gains)))},
            goal="at least 0.1 above",
            holds=min(gains) >= 0.1,
            note=f"gain {min(gains):+.3f} to {max(gains):+.3f}",
            details={"gains": gains},
        )
    ]


def sorting(bench: Bench) -> list[Record]:
    """E4: the full net cut to its narrowest, before any width was trained, sorted and not."""
    plain: list[float] = []
    ordered: list[float] = []
    for seed in range(bench.seeds):
        supernet = full_net(bench, seed)
        space = bench.space
        narrow = space.corner(lambda kind: kind != "expand")
        plain += accuracies(supernet, [narrow], bench.test)
        sort_inner(supernet, [space.plan(space.largest, bench.shape)])
        ordered += accuracies(supernet, [narrow], bench.test)
    gain = np.array(ordered) - np.array(plain)
    return [
        Record(
            claim=f"{bench.setting.name}: sorted channels survive cutting better",
            metric="test accuracy of the full net at its smallest expansion",
            value=float(np.mean(ordered)),
            spread=quartiles(np.array(ordered)),
            seeds=bench.seeds,
            peers={"unsorted": float(np.mean(plain))},
            goal="above unsorted",
            holds=bool(gain.mean() > 0),
            note=f"gain {gain.mean():+.3f} ({gain.min():+.3f} to {gain.max():+.3f})",
            details={"sorted": ordered, "unsorted": plain},
        )
    ]


def full_net(bench: Bench, seed: int) -> Supernet:
    """The full net alone, trained as long as in the arms."""
    options = {
        **bench.setting.training,
        "validation_images": 100,
        "phases": [{"name": "full", "epochs": bench.setting.epochs, "learning_rate": 0.1}],
    }
    program = Registry.discover().create(Program, "ofa-train", options)
    with tempfile.TemporaryDirectory() as folder:
        trial = LocalTrial(Candidate(), bench.space, bench.task, Path(folder), seed=seed)
        program.run(trial)
        return load_supernet(bench.space, bench.shape, trial.artifact("supernet")).eval()


def predictor(bench: Bench) -> list[Record]:
    """E6: rank correlation with held-out accuracies, by size of the table."""
    sizes = (10, 20) if bench.smoke else (25, 50, 100, 240)
    held = 10 if bench.smoke else 80
    options = PredictOptions.model_validate({"supernet": "none", "epochs": 5 if bench.smoke else 200})
    records: list[Record] = []
    table: dict[int, dict[str, list[float]]] = {size: {} for size in sizes}
    for seed in range(bench.seeds):
        supernet, _, _ = bench.trained(ARMS[0], seed)
        chosen = bench.draw(max(sizes) + held, 100 + seed)
        scores = np.array(accuracies(supernet, chosen, bench.images))
        tests = np.array(accuracies(supernet, chosen[-held:], bench.test))
        ceiling = quality(scores[-held:].tolist(), tests.tolist())["spearman"]
        for size in sizes:
            for name in ("mlp", "ridge", "macs"):
                learned = make_predictor(name, bench.space, bench.shape, options)
                learned.fit(chosen[:size], scores[:size])
                value = quality(learned.predict(chosen[-held:]), scores[-held:].tolist())["spearman"]
                table[size].setdefault(name, []).append(value)
            table[size].setdefault("validation to test", []).append(ceiling)
    for size, found in table.items():
        last = size == sizes[-1]
        mlp = np.array(found["mlp"])
        records.append(
            Record(
                claim=f"{bench.setting.name}: the predictor orders unseen sub-nets, after {size} measured",
                metric="Spearman, held-out sub-nets",
                value=float(mlp.mean()),
                spread=quartiles(mlp),
                seeds=bench.seeds,
                peers={name: float(np.mean(values)) for name, values in found.items() if name != "mlp"},
                goal="at least 0.8, and above macs" if last else "",
                holds=bool(mlp.mean() >= 0.8 and mlp.mean() > np.mean(found["macs"])) if last else None,
                details=found,
            )
        )
    return records


def searching(bench: Bench) -> list[Record]:
    """E7: evolution against random search, on measured accuracy, at equal evaluations."""
    population, generations = (8, 1) if bench.smoke else (40, 5)
    records: list[Record] = []
    model = CostModel(bench.space, bench.shape)
    low, high = model.of(bench.space.smallest).macs, model.of(bench.space.largest).macs
    for share in (0.3,) if bench.smoke else (0.15, 0.3, 0.5):
        ours: list[float] = []
        random: list[float] = []
        average: list[float] = []
        seconds: list[float] = []
        for seed in range(bench.seeds):
            supernet, _, _ = bench.trained(ARMS[0], seed)
            limits = Limits(macs=low + share * (high - low))
            begun = time.perf_counter()
            found = search(
                model,
                lambda chosen, net=supernet: accuracies(net, chosen, bench.images),
                limits,
                population=population,
                generations=generations,
                seed=seed,
            )
            seconds.append(time.perf_counter() - begun)
            ours.append(found.ranked[0][1])
            drawn = search(
                model,
                lambda chosen, net=supernet: accuracies(net, chosen, bench.images),
                limits,
                population=len(found.ranked),
                generations=0,
                seed=seed + 1000,
            )
            random.append(drawn.ranked[0][1])
            average.append(float(np.mean([value for _, value in drawn.ranked])))
        records.append(
            Record(
                claim=f"{bench.setting.name}: evolution is as good as random search at {share:.0%} of MACs",
                metric="validation accuracy of the best",
                value=float(np.mean(ours)),
                spread=quartiles(np.array(ours)),
                seeds=bench.seeds,
                peers={"random search": float(np.mean(random)), "a random sub-net": float(np.mean(average))},
                goal="not below random search",
                holds=bool(np.mean(ours) >= np.mean(random)),
                note=f"{len(found.ranked)} evaluations in {np.mean(seconds):.0f} s",
                details={"evolution": ours, "random": random, "seconds": seconds},
            )
        )
    return records


def constraints(bench: Bench) -> list[Record]:
    """The headline: N constraints from one supernet against N networks trained for themselves."""
    shares = (0.3,) if bench.smoke else (0.1, 0.25, 0.5, 0.75)
    model = CostModel(bench.space, bench.shape)
    low, high = model.of(bench.space.smallest).macs, model.of(bench.space.largest).macs
    served: list[float] = []
    trained: list[float] = []
    supernet_seconds: list[float] = []
    serving: list[float] = []
    training: list[float] = []
    for seed in range(bench.seeds):
        supernet, metrics, _ = bench.trained(ARMS[0], seed)
        supernet_seconds.append(metrics["seconds"])
        for share in shares:
            begun = time.perf_counter()
            found = search(
                model,
                lambda chosen, net=supernet: accuracies(net, chosen, bench.images),
                Limits(macs=low + share * (high - low)),
                population=8 if bench.smoke else 30,
                generations=1 if bench.smoke else 3,
                seed=seed,
            )
            network = calibrated(supernet, found.best, bench.images)
            serving.append(time.perf_counter() - begun)
            served.append(score_alone(network, bench.test).accuracy)
            begun = time.perf_counter()
            trained.append(from_scratch(bench, found.best, seed))
            training.append(time.perf_counter() - begun)
    once, each, alone = (float(np.mean(one)) for one in (supernet_seconds, serving, training))
    break_even = once / max(alone - each, 1e-9)
    name = bench.setting.name
    return [
        Record(
            claim=f"{name}: another constraint costs a search, not a training",
            metric="seconds for each further constraint",
            value=each,
            spread=quartiles(np.array(serving)),
            seeds=len(serving),
            peers={"training the network": alone, "the supernet, once": once},
            goal="below training the network",
            holds=each < alone,
            note=f"the supernet pays from {break_even:.0f} constraints on",
            details={"serving": serving, "training": training, "supernet": supernet_seconds},
        ),
        Record(
            claim=f"{name}: what is cut out is as good as the same architecture trained alone",
            metric="test accuracy of the networks found for the constraints",
            value=float(np.mean(served)),
            spread=quartiles(np.array(served)),
            seeds=len(served),
            peers={"trained from scratch, as many epochs as the full net": float(np.mean(trained))},
            goal="not more than 0.01 below",
            holds=bool(np.mean(served) >= np.mean(trained) - 0.01),
            note="no fine-tuning",
            details={"served": served, "trained": trained},
        ),
    ]


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


def throughput(bench: Bench) -> list[Record]:
    """Candidates scored a second: shared work against one candidate after another. Untrained weights."""
    supernet = Supernet(bench.space, bench.shape).eval()
    path = bench.folder / "untrained.safetensors"
    save_supernet(supernet, path)
    count = 6 if bench.smoke else 100
    ratios: list[float] = []
    rates: list[float] = []
    for seed in range(2 if bench.smoke else 3):
        chosen = bench.draw(count, 200 + seed)
        begun = time.process_time()
        together = score_many(supernet, chosen, bench.images)
        shared = (time.process_time() - begun) / count
        begun = time.process_time()
        few = chosen[:: max(1, count // 20)]
        alone = []
        for candidate in few:  # what a trial by itself does: load, cut out, calibrate, score
            network = load_supernet(bench.space, bench.shape, path).eval()
            batches = Images.of(
                bench.task,
                CPU,
                calibration=int(bench.setting.training["calibration_images"]),
                calibration_batch=250,
            )
            alone.append(score_alone(calibrated(network, candidate, batches), batches))
        single = (time.process_time() - begun) / len(few)
        assert alone == together[:: max(1, count // 20)]
        rates.append(1 / shared)
        ratios.append(single / shared)
    return [
        Record(
            claim=f"{bench.setting.name}: candidates that share layers are scored faster, to the same scores",
            metric=f"candidates a CPU second, {count} at once",
            value=float(np.median(rates)),
            spread=quartiles(np.array(rates)),
            seeds=len(rates),
            peers={"one by one": float(np.median(np.array(rates) / np.array(ratios)))},
            goal="5 times as many",
            holds=bool(np.median(ratios) >= 5),
            note=f"{np.median(ratios):.1f} times as many",
            details={"ratios": ratios},
        )
    ]


def step(bench: Bench) -> list[Record]:
    """A training step of the supernet's largest network against the same plain network."""
    supernet = Supernet(bench.space, bench.shape).train()
    network = supernet.extract(bench.space.largest).train()
    inputs = bench.task.split("train").inputs[:50]
    ratios: list[float] = []
    plain: list[float] = []
    for _ in range(3 if bench.smoke else 40):
        taken: list[float] = []
        for model in (network, supernet):
            model.zero_grad()
            begun = time.process_time()
            model(inputs).square().sum().backward()
            taken.append(time.process_time() - begun)
        plain.append(taken[0])
        ratios.append(taken[1] / taken[0])
    macs = cost.macs(bench.space.plan(bench.space.largest, bench.shape))
    return [
        Record(
            claim=f"{bench.setting.name}: slicing costs little",
            metric="CPU time of a supernet step, in steps of the plain largest network",
            value=float(np.median(ratios)),
            spread=quartiles(np.array(ratios)),
            seeds=len(ratios),
            goal="at most 1.15",
            holds=bool(np.median(ratios) <= 1.15),
            note=f"batch 50, {macs:,} multiply-accumulates, plain step {np.median(plain) * 1000:.0f} ms",
        )
    ]


FUNCTIONS = dict(
    zip(
        PARTS,
        (arms, calibration, sorting, predictor, searching, constraints, throughput, step),
        strict=True,
    )
)


def main() -> None:
    run = Run.from_command_line(__file__, __doc__, {"smoke": 1, "default": 2, "full": 5}, PARTS)
    torch.set_num_threads(1)
    settings = {"smoke": (SMOKE,), "default": (DIGITS,), "full": (DIGITS, FASHION)}[run.size]
    records: list[Record] = []
    for setting in settings:
        seeds = min(run.seeds, 3) if setting is FASHION else run.seeds
        with tempfile.TemporaryDirectory(prefix="orchestrate-benchmark-") as folder:
            bench = Bench(setting, seeds, Path(folder), run.size == "smoke")
            for name in run.only or PARTS:
                begun = time.perf_counter()
                records += FUNCTIONS[name](bench)
                print(f"{setting.name}, {name}: {time.perf_counter() - begun:.0f} s", flush=True)
    run.publish(records)


if __name__ == "__main__":
    main()
