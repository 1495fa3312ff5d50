"""How a training program's gradients are made: by itself, or by several workers.

A program owns a `Learner` and asks its trial for gradients; a `ParallelStrategy` decides who
computes them. Inside, *sums* over samples travel and are divided once, so every strategy leaves the
same mean gradient.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from .plugin import Kind, OptionsT, Plugin

if TYPE_CHECKING:
    from torch import Tensor, nn


class Learner(Protocol):
    """What a training program computes gradients of."""

    @property
    def model(self) -> nn.Module:
        """The network whose parameters' `.grad` is filled."""
        ...

    def loss_sum(self, samples: Tensor) -> Tensor:
        """Return the loss summed (not averaged) over `samples`, a scalar with a graph.

        `samples` is int64 (n,): indices into the train split, any part of the global batch. Random
        augmentation is keyed by sample and step, never by worker, so that any worker computes the
        same sum for the same samples.
        """
        ...


class Collective(Protocol):
    """A group of equal ranks that all run the same program (torch.distributed underneath)."""

    @property
    def rank(self) -> int:
        """This process's rank, 0 to size - 1. Rank 0 reports."""
        ...

    @property
    def size(self) -> int:
        """Number of ranks."""
        ...

    def all_reduce(self, tensor: Tensor) -> None:
        """Replace `tensor` by its sum over the ranks, in place."""
        ...

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """Return every rank's `tensor` (equal shapes), in rank order."""
        ...


@dataclass(frozen=True)
class Reply:
    """A worker's answer. `seconds` is the worker's own time on the group's clock; `error` says why
    there is no value (the worker died or raised).
    """

    worker: int
    value: Any = None
    seconds: float = 0.0
    error: str | None = None


class WorkerGroup(Protocol):
    """Workers that a master hands functions to. Implemented on Ray by the scheduler, and with a
    virtual clock by simulations.
    """

    @property
    def size(self) -> int:
        """Number of workers."""
        ...

    def map(self, function: Callable[[Any], Any], arguments: Sequence[Any]) -> Iterator[Reply]:
        """Run `function(arguments[w])` on each worker w; yield replies as they arrive.

        Closing the iterator early abandons the rest (see `cancel`).
        """
        ...

    def cancel(self, workers: Sequence[int]) -> None:
        """Ask these workers to give up what they run. Replies still on the way are dropped."""
        ...

    def replace(self, worker: int) -> None:
        """Start a fresh process in place of a dead worker."""
        ...

    def now(self) -> float:
        """Seconds on the group's clock (real or virtual)."""
        ...


class ParallelStrategy(Plugin[OptionsT]):
    """Computes one global gradient with several workers. Subclass one of the two below."""

    kind: ClassVar[Kind] = "parallel strategy"


class CollectiveStrategy(ParallelStrategy[OptionsT]):
    """Every rank runs the program and takes its shard of each batch."""

    @abstractmethod
    def gradient(self, learner: Learner, samples: Tensor, group: Collective) -> float:
        """Leave the mean gradient over the global `samples` in `.grad` on every rank.

        Returns the mean loss over the global samples.
        """


class CodedStrategy(ParallelStrategy[OptionsT]):
    """The master runs the program and hands chunks of each batch to workers."""

    @abstractmethod
    def gradient(self, learner: Learner, samples: Tensor, group: WorkerGroup) -> float:
        """Leave the mean gradient over the global `samples` in the master's `.grad`.

        Returns the mean loss over the global samples.
        """


def local_gradient(learner: Learner, samples: Tensor) -> float:
    """Compute the mean gradient over `samples` in this process: the case without a strategy.

    Accumulates nothing: gradients left from earlier calls are cleared first. Returns the mean loss.
    """
    learner.model.zero_grad(set_to_none=True)
    total = learner.loss_sum(samples)
    count = len(samples)
    (total / count).backward()  # pyright: ignore[reportUnknownMemberType]
    return float(total.detach()) / count
