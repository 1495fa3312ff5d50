"""Looks a cell's measured results up instead of training it."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from ...core import Evaluation, PluginOptions, Program, SearchSpace, SpecError, Task, TrialContext
from ...core.seeds import generator
from . import table
from .space import DEPTH, WIDTH, NasBench201


class TabularOptions(PluginOptions):
    """Options of `tabular`."""

    dataset: table.Dataset = Field(default="cifar10", description="Data set the cells were trained on.")
    seed: Literal[0, 1, "trial", "mean"] = Field(
        default="mean",
        description="Which measured training: the first or second (some cells have a third), one "
        "drawn by the trial's seed, or the mean of all.",
    )
    noise: float = Field(
        default=0.0,
        ge=0,
        description="Standard deviation of normal noise on the accuracy, drawn by the trial's seed: for "
        "studies of how a search bears it.",
    )


class Tabular(Program[TabularOptions]):
    """NAS-Bench-201's results after 200 epochs of training.

    Metrics: `accuracy` (validation, 0 to 1; the package has no test accuracy, so chosen candidates
    can't be scored on test), `simulated_seconds` (the training's on one GPU), `latency` (seconds a
    batch on the authors' GPU), `parameters`, and `flops` (an image's; 2 a multiply-add). Needs no
    task and no network.
    """

    name: ClassVar[str] = "tabular"
    summary: ClassVar[str] = "look NAS-Bench-201's measured results up"
    batch: ClassVar[int] = 100
    unshared: ClassVar[frozenset[str]] = frozenset({"latency", "parameters", "flops", "simulated_seconds"})

    def check(self, space: SearchSpace, task: Task) -> None:
        if not isinstance(space, NasBench201):
            raise SpecError(
                f"program 'tabular' knows the cells of space 'nasbench201' alone, not those of "
                f"{space.name!r}: set `space: {{name: nasbench201}}`, or use program 'train'"
            )
        width, depth = space.options.width, space.options.depth
        if (width, depth) != (WIDTH, DEPTH):
            raise SpecError(
                f"NAS-Bench-201 was measured with width {WIDTH} and depth {DEPTH}, and the space "
                f"has width {width} and depth {depth}: remove them, or use program 'train'"
            )
        if not table.installed():
            raise SpecError(f"NAS-Bench-201's measurements are not installed: {table.INSTALL}")

    def run(self, trial: TrialContext) -> Evaluation:
        dataset = self.options.dataset
        record = table.load(dataset)[trial.candidate]
        return Evaluation(
            {
                "accuracy": self._accuracy(record.accuracies, trial.seed) + self._noise(trial.seed),
                "simulated_seconds": record.seconds,
                "latency": record.latency,
                "parameters": float(table.parameters(trial.candidate, dataset)),
                "flops": float(table.flops(trial.candidate, dataset)),
            }
        )

    def _noise(self, seed: int) -> float:
        if self.options.noise == 0:
            return 0.0
        return float(generator(seed, 0).normal(0.0, self.options.noise))

    def _accuracy(self, measured: tuple[float, ...], seed: int) -> float:
        which = self.options.seed
        if which == "mean":
            return sum(measured) / len(measured)
        if which == "trial":
            which = int(np.random.default_rng(seed).integers(len(measured)))
        return measured[which]
