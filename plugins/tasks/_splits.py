"""Stratified splits that a seed fixes for good: on every machine, under every version of NumPy.

How many samples of each class a part gets is worked out first (`by_fraction`, `by_count`), then
`deal` draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ...core import PluginOptions

Indices: TypeAlias = NDArray[np.int64]
Fraction: TypeAlias = Annotated[float, Field(gt=0, lt=1)]


class SplitOptions(PluginOptions):
    """Options of a task that makes its own three splits."""

    seed: int = Field(0, ge=0, description="Fixes which samples go into which split.")
    validation: Fraction = Field(0.2, description="Fraction of all samples for validation.")
    test: Fraction = Field(0.2, description="Fraction of all samples for the test.")

    @model_validator(mode="after")
    def _something_left(self) -> SplitOptions:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation {self.validation:g} and test {self.test:g} leave nothing to train on: "
                "their sum must be below 1"
            )
        return self


def by_fraction(sizes: Indices, fractions: Sequence[float]) -> Indices:
    """Share each class out by fractions of it.

    Args:
        sizes: samples in each class, (classes,).
        fractions: one for each part but the last, which gets the rest.

    Returns:
        Samples by part and class, (parts - 1, classes). Each count, the rest's too, lies within one
        sample of the exact fraction.
    """
    bounds = np.outer(np.cumsum(fractions), sizes)
    # Half up, after rounding away the noise of 0.1 + 0.2.
    cuts = np.floor(np.round(bounds, 6) + 0.5).astype(np.int64)
    return np.diff(cuts, axis=0, prepend=0)


def by_count(sizes: Indices, count: int) -> Indices:
    """Share exactly `count` samples out over the classes in proportion to their sizes.

    Largest remainders (Hamilton's method), so each class is within one sample of its exact share.

    Args:
        sizes: samples in each class, (classes,).
        count: at most their sum.

    Returns:
        Samples of each class, (classes,).
    """
    total = int(sizes.sum())
    counts, remainders = np.divmod(sizes * count, total)
    missing = count - int(counts.sum())
    counts[np.argsort(-remainders, kind="stable")[:missing]] += 1
    return counts


def deal(labels: Indices, counts: Indices, seed: int) -> list[Indices]:
    """Draw disjoint parts at random, with a set number of samples from each class.

    Args:
        labels: class of each sample, (samples,), in 0 … classes - 1.
        counts: samples by part and class, (parts - 1, classes). The last part gets the rest.
        seed: of the draw. A class's samples are dealt in one random order, so parts that grow at
            the end of the list leave those before them as they are.

    Returns:
        Indices of each part, in a random order.
    """
    # The bit stream of PCG64 is guaranteed by NumPy (NEP 19), that of Generator.permutation isn't.
    keys = np.random.PCG64(seed).random_raw(len(labels))
    order = np.argsort(keys, kind="stable")
    part = np.empty(len(labels), dtype=np.int64)
    for label, cuts in enumerate(np.cumsum(counts, axis=0).T):
        members = order[labels[order] == label]
        part[members] = np.searchsorted(cuts, np.arange(len(members)), side="right")
    return [order[part[order] == index] for index in range(len(counts) + 1)]
