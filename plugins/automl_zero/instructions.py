"""The instructions of a register machine, after AutoML-Zero (arXiv 2003.03384, table S1; a part of them).

Registers hold scalars, vectors or matrices, for many problems at a time: the first axis is the problem.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Kind: TypeAlias = Literal["scalar", "vector", "matrix"]


@dataclass(frozen=True)
class Instruction:
    """What an operation reads and writes. `compute` takes the inputs, and the constant where it has one."""

    output: Kind
    inputs: tuple[Kind, ...]
    compute: Callable[..., Any]
    commutes: bool = False
    constant: bool = False
    random: bool = False
    """Whether it draws: then `compute` takes standard normal numbers of the output's shape, too."""


def _same(value: float) -> float:
    return value


def _heaviside(one: Floats) -> Floats:
    return np.heaviside(one, 0.0)


def _scale(scalar: Floats, other: Floats) -> Floats:
    return scalar.reshape(-1, *[1] * (other.ndim - 1)) * other


def _gaussian(deviation: float, drawn: Floats) -> Floats:
    return deviation * drawn


def _dot(one: Floats, two: Floats) -> Floats:
    return np.einsum("df,df->d", one, two)


def _mean(one: Floats) -> Floats:
    return np.mean(one, axis=-1)


def _norm(one: Floats) -> Floats:
    return np.sqrt(np.sum(np.square(one), axis=-1))


def _outer(one: Floats, two: Floats) -> Floats:
    return one[:, :, None] * two[:, None, :]


def _matrix_vector(one: Floats, two: Floats) -> Floats:
    return np.einsum("dfg,dg->df", one, two)


INSTRUCTIONS: Mapping[str, Instruction] = {
    "scalar_constant": Instruction("scalar", (), _same, constant=True),
    "scalar_add": Instruction("scalar", ("scalar", "scalar"), np.add, commutes=True),
    "scalar_subtract": Instruction("scalar", ("scalar", "scalar"), np.subtract),
    "scalar_multiply": Instruction("scalar", ("scalar", "scalar"), np.multiply, commutes=True),
    "scalar_divide": Instruction("scalar", ("scalar", "scalar"), np.divide),
    "scalar_abs": Instruction("scalar", ("scalar",), np.abs),
    "scalar_exp": Instruction("scalar", ("scalar",), np.exp),
    "scalar_heaviside": Instruction("scalar", ("scalar",), _heaviside),
    "scalar_maximum": Instruction("scalar", ("scalar", "scalar"), np.maximum, commutes=True),
    "vector_add": Instruction("vector", ("vector", "vector"), np.add, commutes=True),
    "vector_subtract": Instruction("vector", ("vector", "vector"), np.subtract),
    "vector_multiply": Instruction("vector", ("vector", "vector"), np.multiply, commutes=True),
    "vector_maximum": Instruction("vector", ("vector", "vector"), np.maximum, commutes=True),
    "vector_heaviside": Instruction("vector", ("vector",), _heaviside),
    "vector_scale": Instruction("vector", ("scalar", "vector"), _scale),
    "vector_gaussian": Instruction("vector", (), _gaussian, constant=True, random=True),
    "dot": Instruction("scalar", ("vector", "vector"), _dot, commutes=True),
    "vector_mean": Instruction("scalar", ("vector",), _mean),
    "vector_norm": Instruction("scalar", ("vector",), _norm),
    "matrix_add": Instruction("matrix", ("matrix", "matrix"), np.add, commutes=True),
    "matrix_scale": Instruction("matrix", ("scalar", "matrix"), _scale),
    "matrix_gaussian": Instruction("matrix", (), _gaussian, constant=True, random=True),
    "outer": Instruction("matrix", ("vector", "vector"), _outer),
    "matrix_vector": Instruction("vector", ("matrix", "vector"), _matrix_vector),
}

Register: TypeAlias = tuple[Kind, int]

LABEL: Register = ("scalar", 0)
PREDICTION: Register = ("scalar", 1)
FEATURES: Register = ("vector", 0)
"""Registers with a meaning: the label (0 while predicting), the prediction, the example's features."""
