"""How a training program's gradients are made: by itself, or by several workers.

A program owns a `Learner` and asks its trial for gradients; a `ParallelStrategy` decides who
computes them. Inside, *sums* over samples travel and are divided once, so every strategy leaves the
same mean gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, cast

from .errors import SpecError, TrialError
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
    """A worker's answer to one task."""

    worker: int
    value: Any = None
    seconds: float = 0.0
    """From the task's start on the worker to its answer, on the group's clock."""
    error: str | None = None
    """Why there is no value: the worker died, raised, or gave up a cancelled task."""
    ticket: Any = None
    """What `send` was given, unchanged."""
    cause: Literal["died", "raised", "cancelled"] | None = None
    """Which of the three an error is. Only what the function raised is the user's mistake."""
    last: bool = True
    """Whether the task is over. What a generator function yields comes in replies before the last."""


class Shared(Protocol):
    """A value that a master shares with all workers (`WorkerGroup.share`). Part of any argument."""

    def get(self) -> Any:
        """Return the value. Called on a worker; not to be changed in place."""
        ...


class WorkerGroup(ABC):
    """Workers that a master hands tasks to. Implemented on Ray by the scheduler, and with a virtual
    clock by `core.testing.LocalWorkers`, for tests and simulations.

    A worker has one task at a time. Nothing is retried here: what a dead worker owed is sent again by
    whoever wants it.
    """

    size: int
    """Number of workers; it never changes."""

    @property
    def nodes(self) -> Sequence[str]:
        """The node of each worker: workers of one node tend to be slow, or to die, together."""
        return ["here"] * self.size

    @property
    def absent(self) -> Collection[int]:
        """Workers without a process: they were replaced, and the fresh one has not started, or there is no
        room for it. What they are sent waits.
        """
        return ()

    @abstractmethod
    def send(
        self,
        worker: int,
        function: Callable[[Any], Any],
        argument: Any,
        *,
        ticket: Any = None,
        pause: float = 0.0,
    ) -> None:
        """Hand a worker a task: `function(argument)`, after idling for `pause` seconds.

        What a generator function yields travels at once, each item in a reply of its own; what it
        returns is its last reply.

        Returns at once. While the worker is still busy with another task, cancelled or not, this one
        waits; only the newest waits, so that a worker that hangs collects no backlog.
        """

    @abstractmethod
    def receive(self, timeout: float | None = None) -> Reply | None:
        """Return the next reply, or None when none came within `timeout` seconds or none can come.

        A reply to a cancelled task still comes: as cause "cancelled", or with its value if the worker
        was done before it heard. It is up to the master to use or to drop it.
        """

    @abstractmethod
    def cancel(self, workers: Iterable[int]) -> None:
        """Ask these workers to give up their tasks. One that runs sees it in `cancelled()`."""

    @abstractmethod
    def replace(self, worker: int) -> None:
        """Start a fresh process in place of a worker. What it owed is lost."""

    @abstractmethod
    def share(self, value: Any) -> Shared:
        """Make a value available to all workers, copied once a node rather than once a task."""

    @abstractmethod
    def now(self) -> float:
        """Seconds on the group's clock (real or virtual)."""

    def map(self, function: Callable[[Any], Any], arguments: Sequence[Any]) -> Iterator[Reply]:
        """Run `function(arguments[w])` on each worker w; yield replies as they arrive.

        A worker cancelled meanwhile yields nothing; closing the iterator early cancels the rest.
        """
        batch = object()
        waiting = set(range(self.size))
        for worker, argument in enumerate(arguments):
            self.send(worker, function, argument, ticket=batch)
        try:
            while waiting and (reply := self.receive()) is not None:
                if reply.ticket is batch:
                    if reply.last:
                        waiting.discard(reply.worker)
                    if reply.cause != "cancelled":
                        yield reply
        finally:
            self.cancel(waiting)


def answers(function: Callable[[Any], Any], argument: Any) -> Iterator[tuple[Any, bool]]:
    """Run a task, for groups: gives each value, and whether it is the last (see `WorkerGroup.send`)."""
    found = function(argument)
    while isinstance(found, Generator):
        try:
            yield next(cast("Generator[Any, None, Any]", found)), False
        except StopIteration as end:
            found = end.value
    yield found, True


_cancelled: ContextVar[Callable[[], bool]] = ContextVar("cancelled", default=lambda: False)


def cancelled() -> bool:
    """Whether the master has given up waiting for the task that this worker runs.

    A running method of an actor can't be interrupted, so a long task asks between its parts, and
    raises `Cancelled`.
    """
    return _cancelled.get()()


class Cancelled(Exception):
    """Raised by a task that gives up because it is `cancelled`."""


@contextmanager
def cancellable(asked: Callable[[], bool]) -> Generator[None]:
    """Let `cancelled()` answer what `asked` does: for groups, around a task."""
    token = _cancelled.set(asked)
    try:
        yield
    finally:
        _cancelled.reset(token)


_island: ContextVar[Collective | None] = ContextVar("island", default=None)


def island() -> Collective | None:
    """The processes that this worker is made of, or None where it is only one.

    All of them run each of the worker's tasks; what the first one answers is the worker's reply. They must
    agree on when a task is given up: `cancelled()` may become true in one before it does in another.
    """
    return _island.get()


@contextmanager
def within(processes: Collective | None) -> Generator[None]:
    """Let `island()` answer that: for groups, around a task."""
    token = _island.set(processes)
    try:
        yield
    finally:
        _island.reset(token)


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
