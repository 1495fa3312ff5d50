"""Scores a program: trains it on a set of problems and looks at its predictions for unseen examples."""

from __future__ import annotations

import math
import time
from typing import ClassVar

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from ...core import Evaluation, PluginOptions, Program, SearchSpace, SpecError, Task, TrialContext
from .code import read
from .instructions import Floats
from .machine import TOO_LARGE, run
from .problems import make
from .space import AutoMLZero


class AutoMLZeroProgramOptions(PluginOptions):
    """Options of the program `automl-zero`."""

    problems: PositiveInt = Field(10, description="Problems that a program is trained on, each anew.")
    examples: PositiveInt = Field(500, description="Training examples of a problem.")
    epochs: PositiveInt = Field(1, description="Passes over the training examples.")
    seed: NonNegativeInt = Field(0, description="Seed of the problems; another one for another set of them.")


class AutoMLZeroProgram(Program[AutoMLZeroProgramOptions]):
    """Train a candidate of the space `automl-zero` on each problem, and score it on 100 other examples.

    Metrics: `fitness` (0 to 1; regression: 1 - 2/pi arctan(error), digits: the accuracy) and `error`
    (root mean square, or share of wrong answers), each the mean over problems. A program that
    diverges or gives NaN has fitness 0 and no better error than 1e6. Needs no task.
    """

    name: ClassVar[str] = "automl-zero"
    summary: ClassVar[str] = "train and score a candidate of the space automl-zero"
    batch: ClassVar[int] = 20

    def check(self, space: SearchSpace, task: Task) -> None:
        if not isinstance(space, AutoMLZero):
            raise SpecError(
                f"program 'automl-zero' runs candidates of the space automl-zero, not {space.name!r}"
            )

    def run(self, trial: TrialContext) -> Evaluation:
        space = trial.space
        assert isinstance(space, AutoMLZero)
        options, problem = self.options, space.options.problem
        train, valid = make(problem, options.problems, options.examples, space.options.features, options.seed)
        binary = problem == "digits"
        answers: Floats = run(
            read(trial.candidate),
            space.sizes(),
            train,
            valid,
            seed=trial.seed,
            epochs=options.epochs,
            squash=binary,
        )[1]
        if not bool(np.all(np.abs(answers) < TOO_LARGE)):
            return Evaluation({"fitness": 0.0, "error": 1.0 if binary else TOO_LARGE})
        if binary:
            wrong = _mean(((answers > 0.5) != (valid.labels > 0.5)).astype(np.float64))
            return Evaluation({"fitness": 1.0 - wrong, "error": wrong})
        errors = np.sqrt(np.mean((answers - valid.labels) ** 2, axis=1))
        fitness = _mean(1.0 - 2.0 / math.pi * np.arctan(errors))
        return Evaluation({"fitness": fitness, "error": _mean(errors)})

    def rehearse(self, trial: TrialContext) -> float:
        self.run(trial)  # makes the problems
        begun = time.perf_counter()
        self.run(trial)
        return time.perf_counter() - begun


def _mean(values: Floats) -> float:
    return float(np.sum(values)) / values.size
