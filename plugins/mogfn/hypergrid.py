"""HyperGrid: a grid whose cells several test functions score, and the graph that walks it.

The functions are those of the field's grid task (Jain et al., arXiv 2210.12765, appendix; scaling of
shubert, beale and sphere as in order-preserving GFlowNets, arXiv 2310.00386).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ...core import Candidate, Choose, PluginOptions, SearchSpace
from .environment import Bools, Floats, Graph, Integers

Points: TypeAlias = NDArray[np.float64]


def branin(x: Points) -> Points:
    """Branin's function of the first two coordinates, 1 at its minimum."""
    s, t = 15 * (x[:, 0] / 2 + 0.5) - 5, 15 * (x[:, 1] / 2 + 0.5)
    valley = (t - 5.1 / (4 * math.pi**2) * s**2 + 5 * s / math.pi - 6) ** 2
    return 1 - (valley + 10 * (1 - 1 / (8 * math.pi)) * np.cos(s) + 10) / 308.13


def currin(x: Points) -> Points:
    """Currin's exponential function of the first two coordinates, 1.0015 at most."""
    a, b = x[:, 0] / 2 + 0.5, x[:, 1] / 2 + 0.5
    above = 2300 * a**3 + 1900 * a**2 + 2092 * a + 60
    below = 100 * a**3 + 500 * a**2 + 4 * a + 20
    return (1 - np.exp(-1 / (2 * b + 1e-10))) * above / below / 13.77


def shubert(x: Points) -> Points:
    """Shubert's function of the first two coordinates."""
    i = np.arange(1, 6)[:, None]
    p, q = -1.5 * x[:, 0], -1.5 * x[:, 1]
    product = (i * np.cos((i + 1) * p + i)).sum(axis=0) * (i * np.cos((i + 1) * q + i)).sum(axis=0)
    return (product + 186.8) / 397


def beale(x: Points) -> Points:
    """Beale's function of the first two coordinates."""
    u, v = x[:, 0], x[:, 1]
    terms = [(c - u + u * v**power) ** 2 for c, power in ((1.5, 1), (2.25, 2), (2.625, 3))]
    return sum(terms, np.zeros(len(x))) / 38.8


def sphere(x: Points) -> Points:
    """Mean square of all coordinates."""
    return (x**2).mean(axis=1)


FUNCTIONS: Mapping[str, Callable[[Points], Points]] = {
    "branin": branin,
    "currin": currin,
    "shubert": shubert,
    "beale": beale,
    "sphere": sphere,
}
"""Scores (n,) of points (n, dimensions) in [-1, 1], to be maximised."""


class HyperGridOptions(PluginOptions):
    """Options of `hypergrid`."""

    dimensions: int = Field(default=2, ge=2, description="Coordinates; most functions look at two.")
    size: int = Field(default=32, ge=2, description="Cells along each.")


class HyperGrid(SearchSpace[HyperGridOptions]):
    """The cells of a grid over [-1, 1] in each dimension: choices x0, x1, … from 0 to size - 1.

    `synthetic` scores a cell by branin, currin, shubert, beale and sphere.
    """

    name: ClassVar[str] = "hypergrid"
    summary: ClassVar[str] = "cells of a grid, scored by test functions with known fronts"

    def choices(self, choose: Choose) -> None:
        for dimension in range(self.options.dimensions):
            choose.integer(f"x{dimension}", 0, self.options.size - 1)

    def size(self) -> int:
        return self.options.size**self.options.dimensions

    def environment(self) -> GridGraph:
        """The graph that moves one cell along one coordinate, from the corner of zeros."""
        return GridGraph(self.options.dimensions, self.options.size)

    def point(self, candidate: Candidate) -> Points:
        """The cell's place: (dimensions,) in [-1, 1]."""
        cells = [candidate[f"x{dimension}"] for dimension in range(self.options.dimensions)]
        return np.asarray(cells, np.float64) * 2 / (self.options.size - 1) - 1

    def score(self, candidate: Candidate) -> Mapping[str, float]:
        """Every function's value in the cell."""
        point = self.point(candidate)[None]
        return {name: float(function(point)[0]) for name, function in FUNCTIONS.items()}


class GridGraph(Graph):
    """States are cells; actions add 1 to a coordinate, or stop. Many ways lead to a cell."""

    def __init__(self, dimensions: int, size: int) -> None:
        self.dimensions, self.size = dimensions, size
        self.features = dimensions * (size + 1)
        self.actions = dimensions + 1

    def first(self) -> Integers:
        return np.zeros(self.dimensions, np.int64)

    def encode(self, states: Integers) -> Floats:
        one_hot = np.eye(self.size, dtype=np.float32)[states].reshape(len(states), -1)
        return np.concatenate([one_hot, (states / (self.size - 1)).astype(np.float32)], axis=1)

    def allowed(self, states: Integers) -> Bools:
        return np.column_stack([states < self.size - 1, np.ones(len(states), np.bool_)])

    def origins(self, states: Integers) -> Bools:
        return np.column_stack([states > 0, np.zeros(len(states), np.bool_)])

    def step(self, states: Integers, actions: Integers, sign: int = 1) -> Integers:
        moved = states.copy()
        moved[np.arange(len(states)), actions] += sign
        return moved

    def log_ways(self, states: Integers) -> NDArray[np.float64]:
        from scipy.special import gammaln

        return gammaln(states.sum(axis=1) + 1) - gammaln(states + 1).sum(axis=1)

    def candidate(self, state: Integers) -> Candidate:
        return Candidate({f"x{index}": int(cell) for index, cell in enumerate(state)})

    def state(self, candidate: Candidate) -> Integers:
        cells = [candidate[f"x{dimension}"] for dimension in range(self.dimensions)]
        return np.asarray(cells, np.int64)
