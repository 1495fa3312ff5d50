"""A code for gradients that may be inexact: chunks are shared along the edges of a random graph."""

# networkx's own annotations are partial.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import numpy as np

from .base import Code, Floats, Mask, Weights


class Expander(Code):
    """The approximate code of Raviv et al. ("Gradient Coding from Cyclic MDS Codes and Expander Graphs",
    2020, section 5): worker i sends the mean of the chunks of its neighbours in a d-regular graph.

    Exact only when everybody has replied; the error with s stragglers is at most `bound(s)`, however
    they are chosen. Use it with `schemes.Approximation`.

    Args:
        n: Workers, and chunks.
        degree: Chunks of each worker; n times it must be even.
        seed: Draws the graph.

    Raises:
        ValueError: there is no such graph.
    """

    name = "expander"

    def __init__(self, n: int, degree: int, seed: int = 0) -> None:
        super().__init__(n, 0, np.full(n, 1 / n))
        self.arguments = {"n": n, "degree": degree, "seed": seed}
        if not 0 < degree < n or n * degree % 2:
            raise ValueError(f"no graph of {n} workers has {degree} neighbours for each")
        import networkx as nx  # slow to import, and every worker imports this module

        graph = nx.random_regular_graph(degree, n, seed)
        self._matrix: Floats = nx.to_numpy_array(graph, nodelist=range(n)) / degree
        values = np.sort(np.abs(np.linalg.eigvalsh(self._matrix)))
        self.expansion = float(values[-2])
        """Second largest |eigenvalue| over the degree: the smaller, the better."""

    @property
    def matrix(self) -> Floats:
        return self._matrix

    def bound(self, s: int) -> float:
        """The largest |a B - 1| (Euclidean norm) that s stragglers can cause."""
        return self.expansion * float(np.sqrt(self.n * s / (self.n - s)))

    def solve(self, replied: Mask) -> Weights:
        values = replied.astype(np.float64)
        return Weights(values, 0.0 if replied.all() else self._residual(values))

    def approximate(self, replied: Mask) -> Weights:
        return self.least_squares(replied)
