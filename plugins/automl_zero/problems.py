"""The problems that programs are scored on: linear regression, and telling two digits apart."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from ...core.seeds import generator
from .instructions import Floats
from .machine import Data

Problem: TypeAlias = Literal["linear-regression", "digits"]
VALIDATION = 100
"""Examples that a trained program is scored on, in each problem."""


@lru_cache(maxsize=8)
def make(problem: Problem, problems: int, train: int, features: int, seed: int) -> tuple[Data, Data]:
    """Make `problems` problems, each with `train` examples to learn from and `VALIDATION` others.

    `linear-regression`: normal features, labels by normal coefficients, no noise. `digits`: two of the
    ten classes of scikit-learn's digits, their 64 pixels projected at random on `features` dimensions,
    centred and scaled; labels 0 and 1 (the binary tasks of arXiv 2003.03384, section 4.1, made of
    another data set).
    """
    rng = generator(seed, problems, train, features)
    maker = _linear if problem == "linear-regression" else _digits
    made = [maker(rng, train, features) for _ in range(problems)]
    inputs, labels = np.stack([one for one, _ in made]), np.stack([two for _, two in made])
    return Data(inputs[:, :train], labels[:, :train]), Data(inputs[:, train:], labels[:, train:])


def _linear(rng: np.random.Generator, train: int, features: int) -> tuple[Floats, Floats]:
    inputs = rng.standard_normal((train + VALIDATION, features))
    return inputs, inputs @ rng.standard_normal(features)


def _digits(rng: np.random.Generator, train: int, features: int) -> tuple[Floats, Floats]:
    pixels, classes = _loaded()
    one, two = rng.choice(10, size=2, replace=False)
    members = rng.permutation(np.flatnonzero((classes == one) | (classes == two)))
    # 350 of two classes: a longer training sees its examples again, a validation example never.
    valid, rest = members[:VALIDATION], members[VALIDATION:]
    chosen = np.concatenate([np.resize(rest, train), valid])
    inputs = pixels[chosen] @ rng.standard_normal((pixels.shape[1], features))
    mean, deviation = inputs[:train].mean(axis=0), inputs[:train].std(axis=0)
    return (inputs - mean) / deviation, (classes[chosen] == two).astype(np.float64)


@lru_cache(maxsize=1)
def _loaded() -> tuple[Floats, Any]:
    from sklearn.datasets import load_digits  # pyright: ignore[reportUnknownVariableType]

    bunch = cast(Any, load_digits())
    return bunch.data / 16.0, bunch.target
