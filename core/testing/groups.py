"""Groups of workers in one process: for checking parallel strategies and for simulations."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from inspect import isgeneratorfunction
from typing import TYPE_CHECKING, Any

from ..groups import Reply, WorkerGroup, answers

if TYPE_CHECKING:
    from torch import Tensor


class ThreadCollective:
    """One rank of a `Collective` whose ranks are threads of this process."""

    def __init__(self, rank: int, meeting: Meeting) -> None:
        self._rank = rank
        self._meeting = meeting

    @property
    def rank(self) -> int:
        """This thread's rank."""
        return self._rank

    @property
    def size(self) -> int:
        """Number of threads."""
        return self._meeting.size

    def all_reduce(self, tensor: Tensor) -> None:
        """Replace `tensor` by its sum over the ranks, in place."""
        import torch

        tensor.copy_(torch.stack(self.all_gather(tensor)).sum(0))

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """Return every rank's `tensor`, in rank order."""
        return self._meeting.exchange(self._rank, tensor.detach().clone())

    def all_to_all(self, tensor: Tensor) -> Tensor:
        """Send row r of `tensor` to rank r; return the rows sent to this one, in rank order."""
        import torch

        return torch.stack([rows[self._rank] for rows in self.all_gather(tensor)])


class Meeting:
    """Where the threads of a collective exchange values."""

    def __init__(self, size: int, patience: float = 60.0) -> None:
        self.size = size
        self._slots: list[Any] = [None] * size
        self._barrier = threading.Barrier(size, timeout=patience)

    def exchange(self, rank: int, value: Any) -> list[Any]:
        """Give this rank's value, and get all of them once everyone has given theirs.

        Raises:
            threading.BrokenBarrierError: a rank failed, or made another sequence of calls.
        """
        self._slots[rank] = value
        self._barrier.wait()
        gathered = list(self._slots)
        self._barrier.wait()  # nobody overwrites a slot before all have read
        return gathered

    def run(self, work: Callable[[ThreadCollective], Any]) -> list[Any]:
        """Run `work` on every rank, each in a thread; return what they return, in rank order."""
        results: list[Any] = [None] * self.size
        errors: list[Exception] = []

        def rank(number: int) -> None:
            try:
                results[number] = work(ThreadCollective(number, self))
            except threading.BrokenBarrierError as error:
                errors.append(error)
            except Exception as error:  # noqa: BLE001 - raised again by the caller's thread
                errors.insert(0, error)
                self._barrier.abort()

        threads = [threading.Thread(target=rank, args=(number,)) for number in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return results


@dataclass(frozen=True)
class Snapshot:
    """A `Shared` value in this process."""

    value: Any

    def get(self) -> Any:
        """The value."""
        return self.value


@dataclass(order=True)
class _Task:
    due: float
    number: int
    worker: int = field(compare=False)
    function: Callable[[Any], Any] = field(compare=False)
    argument: Any = field(compare=False)
    ticket: Any = field(compare=False)
    pause: float = field(compare=False)
    begun: float = field(compare=False, default=0.0)
    needed: float = field(compare=False, default=0.0)
    answers: Iterator[tuple[Any, bool]] = field(compare=False, default=iter(()))
    cancelled: bool = field(compare=False, default=False)


class LocalWorkers(WorkerGroup):
    """A `WorkerGroup` of this process, on a virtual clock: a task is computed when its reply is due.

    A generator function's replies, one for each element of its argument, are spread evenly over the time
    that its task takes.

    Args:
        size: number of workers.
        dead: workers that answer with an error, until they are replaced.
        order: in which replies to tasks sent at once arrive, when `seconds` is a number: the first
            takes so long, the next twice as long, and so on. By default from worker 0 on.
        seconds: what a task takes: a number, or a function of the worker and of how many tasks it has
            had before.
        deaf: workers that hear of no cancellation: what was cancelled is handed in late.
        nodes: the workers' nodes; by default one.
    """

    def __init__(
        self,
        size: int,
        dead: Collection[int] = (),
        order: Sequence[int] | None = None,
        seconds: float | Callable[[int, int], float] = 1.0,
        *,
        deaf: Collection[int] = (),
        nodes: Sequence[str] | None = None,
    ) -> None:
        self.size = size
        self._nodes = nodes or ["here"] * size
        self._dead = set(dead)
        self._withdrawn: set[int] = set()
        self._rank = {worker: rank for rank, worker in enumerate(order or range(size))}
        self._seconds = seconds
        self._deaf = set(deaf)
        self._now = 0.0
        self._sent = 0
        self._had = [0] * size
        self._running: dict[int, _Task] = {}
        self._waiting: dict[int, _Task] = {}

    @property
    def nodes(self) -> Sequence[str]:
        """The workers' nodes."""
        return self._nodes

    def send(
        self,
        worker: int,
        function: Callable[[Any], Any],
        argument: Any,
        *,
        ticket: Any = None,
        pause: float = 0.0,
    ) -> None:
        """Hand a worker a task."""
        self._sent += 1
        task = _Task(0.0, self._sent, worker, function, argument, ticket, pause)
        if worker in self._running:
            self._waiting[worker] = task
        else:
            self._begin(task)

    def _begin(self, task: _Task) -> None:
        worker = task.worker
        if callable(self._seconds):
            needed = self._seconds(worker, self._had[worker])
        else:
            needed = self._seconds * (self._rank[worker] + 1)
        self._had[worker] += 1
        several = isgeneratorfunction(task.function) and len(task.argument) > 1
        task.needed = needed / len(task.argument) if several else needed
        task.begun, task.due = self._now, self._now + task.pause + task.needed
        if worker in self._withdrawn:
            task.due = math.inf
        task.answers = answers(task.function, task.argument)
        self._running[worker] = task

    def receive(self, timeout: float | None = None) -> Reply | None:
        """Turn the clock on to the next reply, or by `timeout`."""
        task = min(self._running.values(), default=None)
        until = math.inf if timeout is None else self._now + timeout
        if task is None or task.due > until or task.due == math.inf:
            self._now = self._now if until == math.inf else until
            return None
        self._now = max(self._now, task.due)
        reply = self._reply(task)
        if not reply.last:
            task.due += task.needed
            return reply
        del self._running[task.worker]
        if waiting := self._waiting.pop(task.worker, None):
            self._begin(waiting)
        return reply

    def _reply(self, task: _Task) -> Reply:
        worker, seconds = task.worker, self._now - task.begun
        if worker in self._dead:
            return Reply(worker, None, seconds, "the worker is dead", task.ticket, "died")
        if task.cancelled:
            return Reply(worker, None, seconds, "cancelled", task.ticket, "cancelled")
        try:
            value, last = next(task.answers)
        except Exception as error:  # noqa: BLE001 - the master is told, as by any group
            return Reply(worker, None, seconds, f"{type(error).__name__}: {error}", task.ticket, "raised")
        return Reply(worker, value, seconds, None, task.ticket, last=last)

    def cancel(self, workers: Iterable[int]) -> None:
        """End these workers' tasks now, except those of the deaf."""
        for worker in workers:
            self._waiting.pop(worker, None)
            if worker in self._running and worker not in self._deaf and worker not in self._withdrawn:
                task = self._running[worker]
                task.cancelled, task.due = True, self._now

    def replace(self, worker: int) -> None:
        """Bring a dead worker back, unless it was withdrawn."""
        self._dead.discard(worker)
        self._running.pop(worker, None)
        self._waiting.pop(worker, None)

    @property
    def absent(self) -> Collection[int]:
        """Workers that were withdrawn."""
        return self._withdrawn

    def withdraw(self, worker: int) -> None:
        """Let a worker die, and no process take its place until it is restored."""
        self._withdrawn.add(worker)
        self.kill(worker)

    def restore(self, worker: int) -> None:
        """Give a withdrawn worker a process again: it does what it was sent since."""
        self._withdrawn.discard(worker)
        if worker in self._running:
            self._begin(self._running[worker])

    def kill(self, worker: int) -> None:
        """Let a worker die: what it runs is answered by its death, at once."""
        self._dead.add(worker)
        if worker in self._running:
            self._running[worker].due = self._now

    def share(self, value: Any) -> Snapshot:
        """Share a value: itself."""
        return Snapshot(value)

    def now(self) -> float:
        """Virtual seconds since the start."""
        return self._now
