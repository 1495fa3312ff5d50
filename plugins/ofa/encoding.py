"""Candidates as vectors of zeros and ones, and back: what accuracy predictors read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ...core import Candidate, Categorical, Choice, Value
from .base import Gene, OnceForAll

Vector = NDArray[np.float64]


class Encoder:
    """One-hot encoding of every gene but depth: a block that isn't there is all zeros.

    With the paper's settings and eight resolutions this gives its 128 inputs for `ofa-mobilenetv3`
    and 82 for `ofa-resnet50d`.
    """

    def __init__(self, space: OnceForAll) -> None:
        self.space = space
        self.genes = tuple(gene for gene in space.genes if gene.kind != "depth")
        starts = np.cumsum([0, *(len(gene.options) for gene in self.genes)]).tolist()
        self.size: int = starts[-1]
        self._starts: dict[str, int] = {
            gene.name: start for gene, start in zip(self.genes, starts, strict=False)
        }
        self._options: dict[str, Gene] = {gene.name: gene for gene in self.genes}

    def encode(self, candidate: Mapping[str, Value]) -> Vector:
        """Encode one candidate: (size,)."""
        vector = np.zeros(self.size)
        for gene in self.genes:
            if gene.name in candidate:
                vector[self._starts[gene.name] + gene.options.index(candidate[gene.name])] = 1.0
        return vector

    def decode(self, vector: Vector) -> Candidate:
        """The candidate that `encode` gives `vector` for.

        Raises:
            SpaceError: no candidate has that vector.
        """

        def pick(choice: Choice) -> Value:
            assert isinstance(choice, Categorical)
            stage, _, kind = choice.name.rpartition(".")
            if kind == "depth":
                blocks = {
                    gene.name.split(".")[1]
                    for gene in self.genes
                    if gene.name.startswith(f"{stage}.block") and self._slice(vector, gene.name).any()
                }
                return min(choice.options, key=lambda depth: abs(cast(int, depth) - len(blocks)))
            return choice.options[int(np.argmax(self._slice(vector, choice.name)))]

        return self.space.generate(pick)

    def _slice(self, vector: Vector, name: str) -> Vector:
        start = self._starts[name]
        return vector[start : start + len(self._options[name].options)]
