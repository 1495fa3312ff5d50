"""The groups of processes that make a trial's gradients: equal ranks, or a master's workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

if TYPE_CHECKING:
    from torch import Tensor


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

    def all_to_all(self, tensor: Tensor) -> Tensor:
        """Send row r of `tensor` (size, …) to rank r; return the rows sent to this one, in rank order."""
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
