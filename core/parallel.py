"""How a training program's gradients are made: by itself, or by several workers.

A program owns a `Learner` and asks its trial for gradients; a `ParallelStrategy` decides who
computes them. Inside, *sums* over samples travel and are divided once, so every strategy leaves the
same mean gradient.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from .errors import SpecError, TrialError
from .groups import Collective, WorkerGroup
from .plugin import Kind, OptionsT, Plugin

if TYPE_CHECKING:
    from torch import Tensor, nn


class Learner(Protocol):
    """What a training program computes gradients of.

    A coded strategy sends it to workers as it stands at each step, so hold in it what `loss_sum` needs
    and no more: the network, tensors of data, plain values such as the step and the sub-networks drawn
    for it (drawn once a step, not once a call, so that all workers take the same). Tensors other than
    the network's travel once, and again after a change in place.
    """

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


@dataclass(frozen=True)
class Expected:
    """One way to make gradients: its name, the seconds that a gradient takes, and the share of the
    time of an uncoded gradient that it saves.
    """

    name: str
    seconds: float
    saves: float


@dataclass(frozen=True)
class Forecast:
    """What a strategy is expected to bring.

    `gain` is the share of the time that `choice` saves over doing without, with a 95 % interval.
    """

    source: str
    """What it is told from."""
    ways: tuple[Expected, ...]
    """The fastest first."""
    choice: str
    gain: float
    interval: tuple[float, float]
    reason: str
    warning: str = ""
    """Why what the job asks for isn't expected to pay."""


class ParallelStrategy(Plugin[OptionsT]):
    """Computes one global gradient with several workers. Subclass one of the two below."""

    kind: ClassVar[Kind] = "parallel strategy"
    evidence: ClassVar[str | None] = None
    """Kind of artifact that `forecast` is made from."""

    def check(self, workers: int, models: int) -> None:
        """Refuse, before anything starts, a number of workers, or of candidates in a launch.

        Raises:
            SpecError: with the reason and what to change.
        """

    def forecast(self, workers: int, models: int, earlier: Sequence[Path]) -> Forecast | None:
        """Say what the strategy is expected to bring, for `orchestrate plan` and the start of a job.

        Args:
            workers: of the group.
            models: candidates in a launch.
            earlier: artifacts of kind `evidence` that earlier runs of the same stage left, the newest
                first.

        Returns:
            None where nothing is known, or nothing can be told.
        """
        return None


class RankSession(Protocol):
    """What one rank of a collective strategy has during one trial."""

    def gradient(self, learner: Learner, samples: Tensor) -> float:
        """Leave the mean gradient over the global `samples` in `.grad` on every rank.

        Returns the mean loss over the global samples.
        """
        ...

    def state(self) -> Mapping[str, Any]:
        """What this rank needs to go on from here: tensors, numbers, strings, dicts and lists of them.

        It is kept with each of the trial's checkpoints, a file a rank; empty on all ranks or on none.
        """
        ...

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave on this rank."""
        ...

    def metrics(self) -> Mapping[str, float]:
        """Figures so far, to be reported beside the trial's own metrics. Asked for on rank 0."""
        ...

    def artifacts(self, folder: Path) -> Mapping[str, Path]:
        """Write what is to be kept into `folder`, on rank 0 at the end; by kind of artifact."""
        ...


class CollectiveStrategy(ParallelStrategy[OptionsT]):
    """Every rank runs the program and takes its shard of each batch."""

    def check(self, workers: int, models: int) -> None:
        """Refuse more than one candidate a launch: the ranks run one program."""
        if models > 1:
            raise SpecError("all its ranks run one candidate at a time: leave `batch` out")

    @abstractmethod
    def gradient(self, learner: Learner, samples: Tensor, group: Collective) -> float:
        """Leave the mean gradient over the global `samples` in `.grad` on every rank.

        Returns the mean loss over the global samples.
        """

    def open(self, group: Collective, seed: int) -> RankSession:
        """Begin a trial with this seed, on one rank; sends nothing. The default remembers nothing."""
        return Forgetful(self, group)


class Forgetful:
    """A session that makes each gradient by itself."""

    def __init__(self, strategy: CollectiveStrategy, group: Collective) -> None:
        self._strategy = strategy
        self._group = group

    def gradient(self, learner: Learner, samples: Tensor) -> float:
        """Have the strategy make it."""
        return self._strategy.gradient(learner, samples, self._group)

    def state(self) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Have nothing to load."""

    def metrics(self) -> Mapping[str, float]:
        """Nothing."""
        return {}

    def artifacts(self, folder: Path) -> Mapping[str, Path]:
        """Nothing."""
        return {}


class GradientStream(Protocol):
    """Gradients of several models, made by one group of workers some rounds after they are asked for.

    A model is known by a number and has one gradient under way at most.
    """

    def submit(self, model: int, learner: Learner, samples: Tensor) -> None:
        """Ask for the mean gradient over the global `samples`, at the model's weights as they are."""
        ...

    def advance(self) -> Sequence[tuple[int, float | Exception]]:
        """Do one round's work.

        Returns the models whose gradient is now in `.grad`, with their mean loss, or with the exception
        that stands in its way.
        """
        ...

    def retire(self, model: int) -> None:
        """Hear that a model asks for nothing more."""
        ...

    def metrics(self) -> Mapping[str, float]:
        """Figures of the rounds so far, to be reported beside the models' own metrics."""
        ...

    def keep(self, folders: Sequence[Path]) -> None:
        """Write what happens in rounds to files in each of these folders, from now on and as it
        happens: they outlive this process. Called once, before the first round.
        """
        ...

    def artifacts(self, folder: Path) -> Mapping[str, Path]:
        """Write what is to be kept of the rounds into `folder`; by kind of artifact."""
        ...


class CodedStrategy(ParallelStrategy[OptionsT]):
    """The master runs the program and hands chunks of each batch to workers."""

    @property
    def models(self) -> int:
        """How many independent models it wants trained at once, at least: the batch of a launch."""
        return 1

    @abstractmethod
    def gradient(self, learner: Learner, samples: Tensor, group: WorkerGroup) -> float:
        """Leave the mean gradient over the global `samples` in the master's `.grad`.

        Returns the mean loss over the global samples.
        """

    def open(self, group: WorkerGroup, models: int) -> GradientStream:
        """Begin a stream for `models` models. The default makes one gradient after the other."""
        return OneByOne(self, group)


class OneByOne:
    """A stream that makes each gradient whole before the next."""

    def __init__(self, strategy: CodedStrategy, group: WorkerGroup) -> None:
        self._strategy = strategy
        self._group = group
        self._asked: deque[tuple[int, Learner, Tensor]] = deque()

    def submit(self, model: int, learner: Learner, samples: Tensor) -> None:
        """Queue a model."""
        self._asked.append((model, learner, samples))

    def advance(self) -> Sequence[tuple[int, float | Exception]]:
        """Make the next gradient."""
        model, learner, samples = self._asked.popleft()
        try:
            return [(model, self._strategy.gradient(learner, samples, self._group))]
        except TrialError as error:
            return [(model, error)]

    def retire(self, model: int) -> None:
        """Forget a model."""
        self._asked = deque(one for one in self._asked if one[0] != model)

    def metrics(self) -> Mapping[str, float]:
        """Nothing."""
        return {}

    def keep(self, folders: Sequence[Path]) -> None:
        """Keep nothing."""

    def artifacts(self, folder: Path) -> Mapping[str, Path]:
        """Nothing."""
        return {}


def local_gradient(learner: Learner, samples: Tensor) -> float:
    """Compute the mean gradient over `samples` in this process: the case without a strategy.

    Accumulates nothing: gradients left from earlier calls are cleared first. Returns the mean loss.
    """
    learner.model.zero_grad(set_to_none=True)
    total = learner.loss_sum(samples)
    count = len(samples)
    (total / count).backward()  # pyright: ignore[reportUnknownMemberType]
    return float(total.detach()) / count
