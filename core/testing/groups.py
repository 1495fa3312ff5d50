"""Groups of workers in one process: for checking parallel strategies and for simulations."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..parallel import Reply

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


class LocalWorkers:
    """A `WorkerGroup` that runs everything here, one after the other, on a clock of its own.

    Args:
        size: number of workers.
        dead: workers that answer with an error, until they are replaced.
        order: in which replies arrive; by default from worker 0 on.
        seconds: what each reply takes on the clock.
    """

    def __init__(
        self,
        size: int,
        dead: Collection[int] = (),
        order: Sequence[int] | None = None,
        seconds: float = 1.0,
    ) -> None:
        self._size = size
        self._dead = set(dead)
        self._order = list(order if order is not None else range(size))
        self._seconds = seconds
        self._now = 0.0
        self._cancelled: set[int] = set()

    @property
    def size(self) -> int:
        """Number of workers."""
        return self._size

    def map(self, function: Callable[[Any], Any], arguments: Sequence[Any]) -> Iterator[Reply]:
        """Run `function` on each worker's argument; yield replies in the group's order."""
        self._cancelled.clear()
        for worker in self._order:
            if worker in self._cancelled:
                continue
            self._now += self._seconds
            if worker in self._dead:
                yield Reply(worker, seconds=self._seconds, error="the worker is dead")
            else:
                yield Reply(worker, function(arguments[worker]), self._seconds)

    def cancel(self, workers: Sequence[int]) -> None:
        """Drop these workers' replies."""
        self._cancelled.update(workers)

    def replace(self, worker: int) -> None:
        """Bring a dead worker back."""
        self._dead.discard(worker)

    def now(self) -> float:
        """Seconds that the replies have taken so far."""
        return self._now
