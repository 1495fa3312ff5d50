"""Runs a program on examples: for many problems at a time, each example after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...core.seeds import generator
from .code import Code, Line
from .instructions import INSTRUCTIONS, Floats, Kind

TOO_LARGE = 1e6  # predictions beyond are those of a program that diverges


@dataclass(frozen=True)
class Sizes:
    """How many registers there are, and how long vectors are."""

    scalars: int
    vectors: int
    matrices: int
    features: int


@dataclass(frozen=True)
class Data:
    """Problems: `inputs` (problems, examples, features), `labels` (problems, examples)."""

    inputs: Floats
    labels: Floats

    def __len__(self) -> int:
        """Number of problems."""
        return len(self.labels)


def run(
    code: Code, sizes: Sizes, train: Data, valid: Data, *, seed: int, epochs: int = 1, squash: bool = False
) -> tuple[Floats, Floats]:
    """Train on one example after the other, then predict the others.

    Args:
        code: the program.
        sizes: of its memory.
        train: seen `epochs` times, in order.
        valid: predicted afterwards.
        seed: of the instructions that draw.
        epochs: passes over `train`; 0 is none.
        squash: map predictions to (0, 1) by the logistic function, before `learn` sees them.

    Returns:
        Predictions for the examples of `train` as they come, (problems, epochs * examples), and for
        `valid`, (problems, examples). A program that diverges is stopped: what is left is NaN.
    """
    problems = len(train)
    memory: Mapping[Kind, Floats] = {
        "scalar": np.zeros((sizes.scalars, problems)),
        "vector": np.zeros((sizes.vectors, problems, sizes.features)),
        "matrix": np.zeros((sizes.matrices, problems, sizes.features, sizes.features)),
    }
    rng = generator(seed)
    scalars, vectors = memory["scalar"], memory["vector"]
    setup, predict, learn = (
        [_step(line, memory, rng) for line in lines] for lines in (code.setup, code.predict, code.learn)
    )

    def predicted(inputs: Floats) -> Floats:
        scalars[0] = 0.0  # the label is hidden
        vectors[0] = inputs
        for step in predict:
            step()
        if squash:
            scalars[1] = 1.0 / (1.0 + np.exp(-scalars[1]))
        return scalars[1]

    count = train.labels.shape[-1]
    seen = np.full((problems, epochs * count), np.nan)
    answers = np.full(valid.labels.shape, np.nan)
    with np.errstate(all="ignore"):
        for step in setup:
            step()
        for position in range(epochs * count):
            example = position % count
            guess = predicted(train.inputs[:, example])
            seen[:, position] = guess
            if not np.abs(guess).max() < TOO_LARGE:
                return seen, answers
            scalars[0] = train.labels[:, example]
            for step in learn:
                step()
        for example in range(valid.labels.shape[-1]):
            answers[:, example] = predicted(valid.inputs[:, example])
    return seen, answers


def _step(line: Line, memory: Mapping[Kind, Floats], rng: np.random.Generator) -> Callable[[], None]:
    """Turn a line into a call without arguments; registers are views that are written in place."""
    instruction = INSTRUCTIONS[line.operation]
    output = memory[line.output[0]][line.output[1]]
    inputs = [memory[kind][number] for kind, number in line.inputs]
    compute = instruction.compute
    if isinstance(compute, np.ufunc):
        return partial(compute, *inputs, out=output)
    constants: Sequence[float] = () if line.constant is None else (line.constant,)

    def step() -> None:
        if instruction.random:
            output[...] = compute(*inputs, *constants, rng.standard_normal(output.shape))
        else:
            output[...] = compute(*inputs, *constants)

    return step
