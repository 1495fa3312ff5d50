"""What a search space may say of its candidates, so that equal functions in different clothes are seen.

A fingerprint that compares candidates by what they do needs to run them, briefly. A space that builds
networks needs nothing here: its networks are run. Any other space, or one that knows better, writes
`probe` (how a candidate is run) or `canonical` (what is the same without running), or both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from torch import nn

    from .candidate import Candidate
    from .task import Shape


@dataclass(frozen=True)
class NetworkProbe:
    """Compares candidates as networks: by their outputs on frozen inputs and frozen weights."""

    build: Callable[[], nn.Module]
    """Builds the network, drawing from torch's default generator. A part of the real network will do
    where equal parts make equal networks: one cell, narrow."""
    input: tuple[int, ...]
    """Shape of one input, without the batch: the network maps (N, *input) to tensors."""
    residual: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """JSON data that must be equal, too: all that a few passes and steps can't show."""


@dataclass(frozen=True)
class FunctionProbe:
    """Compares candidates by the numbers that a function of the space returns."""

    run: Callable[[int, int], Sequence[float]]
    """`run(seed, examples)`: runs the candidate on so many examples, frozen by the seed, and returns
    what it gives for each. Deterministic, a function of seed and examples alone; NaN and infinities are
    welcome. Enough numbers to tell different candidates apart, in a fixed order, never their sum."""
    residual: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """JSON data that must be equal, too: all that `run` can't show."""


@dataclass(frozen=True)
class EstimatorProbe:
    """Compares candidates as scikit-learn estimators, fitted to a few samples of the task."""

    build: Callable[[], Any]
    """Makes the estimator or pipeline, unfitted."""
    residual: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """JSON data that must be equal, too: all that a fit to a few samples can't show."""


Probe: TypeAlias = NetworkProbe | FunctionProbe | EstimatorProbe


@runtime_checkable
class Probed(Protocol):
    """A search space that says how its candidates are run for comparison."""

    def probe(self, candidate: Candidate, shape: Shape) -> Probe:
        """Say how to run `candidate`. Cheap: the work is done when the probe is used.

        What the probe doesn't show enters its `residual`, else candidates are merged that a full
        training would tell apart: a learning-rate decay after epoch 50 is invisible in two steps.
        """
        ...


@runtime_checkable
class Canonical(Protocol):
    """A search space that knows when two candidates are the same without running them."""

    def canonical(self, candidate: Candidate) -> Any:
        """Give JSON data that is equal only for candidates that are the same program.

        The same up to names: of nodes, registers, operands' order. Wherever that is in doubt the data
        must differ; candidates that it leaves apart may still be found equal by running them.
        """
        ...
