"""What the Once-for-All benchmarks share: data sets, and supernets that are trained once for all parts.

Accuracies are of re-calibrated networks: on the test split where trainings are compared, on validation
inside a search. Seconds are of one processor.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from _record import Record, Run

from orchestrate.core import Candidate, Program, SearchSpace, Split, Task
from orchestrate.core.registry import Registry
from orchestrate.core.seeds import generator
from orchestrate.core.testing import LocalTrial
from orchestrate.plugins.ofa.predictor import unique_candidates
from orchestrate.plugins.ofa.scoring import BATCH, Images, score_many
from orchestrate.plugins.ofa.supernet import Supernet, load_supernet

CPU = torch.device("cpu")
SHRINKING, FULL = "progressive-shrinking", "full"
FEWEST = 3
"""Seeds below which no verdict is given."""


@dataclass(frozen=True)
class Setting:
    """A data set with the options of its trainings."""

    name: str
    task: Mapping[str, Any]
    space: Mapping[str, Any]
    training: Mapping[str, Any]
    epochs: int
    """Of the full net, and of a network trained alone."""
    tested: int | None = None
    """Test images, the first so many; None: all."""
    random: int = 20
    """Random sub-nets whose mean is compared."""
    table: tuple[int, ...] = (25, 50, 100, 240)
    """Measured sub-nets that predictors learn from."""
    held: int = 80
    """Further ones that predictors are judged by."""
    shares: tuple[float, ...] = (0.15, 0.3, 0.5)
    """Limits of searches, on the way from the fewest multiply-accumulates to the most."""
    population: int = 40
    generations: int = 5

    def parts(self) -> tuple[Task, Any]:
        """The task and the space."""
        registry, task, space = Registry.discover(), dict(self.task), dict(self.space)
        return (
            registry.create(Task, task.pop("name"), task),
            registry.create(SearchSpace, space.pop("name"), space),
        )


DIGITS = Setting(
    "digits",
    {"name": "digits", "validation": 0.28, "test": 0.44},  # 504 to train on: with more, all reach 99 %
    {"name": "ofa-mobilenetv3", "preset": "tiny", "resolutions": [8]},
    {"clip": 5, "augment": {"shift": 1}, "batch_size": 50, "calibration_images": 500},
    epochs=24,
)
FASHION = Setting(
    "Fashion-MNIST",
    {"name": "fashion-mnist", "subset": 2000, "validation": 1000},
    {"name": "ofa-mobilenetv3", "preset": "small"},
    {"clip": 5, "augment": {"shift": 2, "flip": True}, "batch_size": 50, "calibration_images": 500},
    epochs=4,
    tested=1000,
    table=(25, 50, 100),
    held=50,
    shares=(0.3,),
)
SMOKE = Setting(
    "digits",
    {"name": "digits", "validation": 0.1, "test": 0.8},
    DIGITS.space,
    {**DIGITS.training, "calibration_images": 50},
    epochs=1,
    random=4,
    table=(10, 20),
    held=10,
    shares=(0.3,),
    population=8,
    generations=1,
)


@dataclass(frozen=True)
class Trained:
    """A supernet, and what its training took."""

    supernet: Supernet
    passes: int
    """Forward and backward passes of sub-nets."""
    steps: int
    """Optimiser steps."""
    seconds: float


class Bench:
    """The data, the space and the supernets of one setting."""

    def __init__(self, setting: Setting, seeds: int, folder: Path, smoke: bool) -> None:
        self.setting = setting
        self.seeds = seeds
        self.smoke = smoke
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.task, self.space = setting.parts()
        self.shape = self.task.shape()
        images = int(setting.training["calibration_images"])
        held = len(self.task.split("validation").targets)
        batch = min(BATCH, -(-held // 2))  # two at least: their agreement says how noisy accuracies are
        self.images = Images.of(self.task, CPU, calibration=images, calibration_batch=250, batch=batch)
        test: Split = self.task.split("test")
        inputs, targets = (tensor[: setting.tested] for tensor in test)
        self.test = Images(self.images.calibration, inputs.split(BATCH), targets.split(BATCH))
        self._seconds: dict[tuple[str, int], float] = {}

    def train(self, methods: Sequence[str]) -> None:
        """Train the supernets of these methods, all seeds, as many at a time as there are cores."""
        wanted = [(method, seed) for seed in range(self.seeds) for method in methods]
        wanted = [one for one in wanted if one not in self._seconds]
        with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn")) as pool:
            arguments = [(self.setting, method, seed, self._path(method, seed)) for method, seed in wanted]
            for one, seconds in zip(wanted, pool.map(_train, arguments), strict=True):
                self._seconds[one] = seconds
                print(f"{self.setting.name}, {one[0]}, seed {one[1]}: {seconds:.0f} s", flush=True)

    def trained(self, method: str, seed: int) -> Trained:
        """A supernet that `train` trained."""
        files = self._path(method, seed) / "artifacts"
        phases = json.loads((files / "phases.json").read_text(encoding="utf-8"))
        return Trained(
            load_supernet(self.space, self.shape, files / "supernet").eval(),
            sum(phase["passes"] for phase in phases),
            sum(phase["steps"] for phase in phases),
            float((self._path(method, seed) / "seconds").read_text(encoding="ascii")),
        )

    def _path(self, method: str, seed: int) -> Path:
        return self.folder / f"{method}-{seed}"

    def draw(self, count: int, seed: int) -> list[Candidate]:
        """Different random candidates."""
        return unique_candidates(self.space, count, generator(seed))


def _train(arguments: tuple[Setting, str, int, Path]) -> float:
    """Train a supernet into a folder, unless it is there; give the seconds."""
    setting, method, seed, folder = arguments
    done = folder / "seconds"
    if done.exists():
        return float(done.read_text(encoding="ascii"))
    shutil.rmtree(folder, ignore_errors=True)
    torch.set_num_threads(1)
    task, space = setting.parts()
    full = {"phases": [{"name": "full", "epochs": setting.epochs, "learning_rate": 0.1}]}
    options = {
        **setting.training,
        "validation_images": 100,  # only the phases' own report is made from these
        **(full if method == FULL else {"method": method, "epochs": setting.epochs}),
    }
    program = Registry.discover().create(Program, "ofa-train", options)
    program.check(space, task)
    begun = time.process_time()
    program.run(LocalTrial(Candidate(), space, task, folder, seed=seed))
    seconds = time.process_time() - begun
    done.write_text(f"{seconds:.3f}", encoding="ascii")
    return seconds


def accuracies(
    supernet: Supernet, chosen: Sequence[Candidate], images: Images, **options: Any
) -> list[float]:
    """Accuracies of re-calibrated sub-nets."""
    return [score.accuracy for score in score_many(supernet, chosen, images, **options)]


@contextmanager
def supernets() -> Generator[Path]:
    """Where supernets go: the folder that the environment names, for other runs to find, or a passing one."""
    kept = os.environ.get("ORCHESTRATE_SUPERNETS")
    if kept:
        yield Path(kept)
        return
    with tempfile.TemporaryDirectory(prefix="orchestrate-benchmark-") as folder:
        yield Path(folder)


def main(
    file: str,
    description: str | None,
    parts: Mapping[str, Callable[[Bench], list[Record]]],
    methods: Sequence[str] = (),
) -> None:
    """Run a script's parts (all, or those that the command line names), and write their records.

    Args:
        file: the script.
        description: its help.
        parts: what it measures, by name.
        methods: of the supernets that the parts need.
    """
    run = Run.from_command_line(file, description, {"smoke": 1, "default": 5, "full": 5}, tuple(parts))
    torch.set_num_threads(1)
    settings = {"smoke": (SMOKE,), "default": (DIGITS,), "full": (DIGITS, FASHION)}[run.size]
    records: list[Record] = []
    for setting in settings:
        seeds = min(run.seeds, 3) if setting is FASHION else run.seeds
        with supernets() as folder:
            bench = Bench(setting, seeds, folder / setting.name, run.size == "smoke")
            bench.train(methods)
            for name in run.only or parts:
                begun = time.perf_counter()
                records += parts[name](bench)
                print(f"{setting.name}, {name}: {time.perf_counter() - begun:.0f} s", flush=True)
    run.publish(records)
