"""The workers of a trial with a coded strategy: Ray actors in the trial's placement group, to which the
master hands functions.
"""

# Ray's own annotations are partial.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from ..core.errors import LostError
from ..core.groups import Cancelled, Reply, WorkerGroup, answers, cancellable, within
from .ranks import TorchCollective, bundle, free_address


@dataclass(frozen=True)
class _Answer:
    """What a worker says of its task, `seconds` after it began."""

    value: Any
    last: bool
    seconds: float
    cancelled: bool = False


class WorkerActor:
    """A worker of a coded group, or one of the processes of an island that is a worker: a task at a time, and
    an ear for cancellations beside it.

    A method that runs can't be interrupted by Ray, so that a cancellation is a number that the task
    looks at: tasks up to it are given up.
    """

    def __init__(self, threads: int, visible: str | None, processes: int = 1) -> None:
        if visible is not None:  # before CUDA starts
            os.environ["CUDA_VISIBLE_DEVICES"] = visible
        self._threads = threads
        self._processes = processes
        self._island: TorchCollective | None = None
        self._cancelled = 0
        self._heard = threading.Condition()

    def address(self) -> str:
        """Where the processes of an island can meet."""
        return free_address()

    def join(self, address: str, rank: int) -> None:
        """Enter the island. Sums are added up on the CPU."""
        self._island = TorchCollective(address, rank, self._processes, gpu=False)

    def call(
        self, function: Callable[[Any], Any], argument: Any, number: int, pause: float
    ) -> Iterator[_Answer]:
        """Run task `number`, after a pause; give its answers. The last one may be that it was given up.

        Raises:
            LostError: the island is broken.
        """
        if self._threads:
            self._limit_threads()
        begun = time.perf_counter()
        with self._heard:
            given_up = self._heard.wait_for(lambda: self._cancelled >= number, timeout=pause)
        if not given_up or self._processes > 1:  # an island gives up together, within the task
            with (
                suppress(Cancelled),
                cancellable(lambda: self._cancelled >= number),
                within(self._island),
                self._whole(),
            ):
                for value, last in answers(function, argument):
                    yield _Answer(value, last, time.perf_counter() - begun)
                return
        yield _Answer(None, last=True, seconds=time.perf_counter() - begun, cancelled=True)

    def assist(self, function: Callable[[Any], Any], argument: Any, number: int, pause: float) -> None:
        """Run task `number` as another process of an island than the first, which answers."""
        for _ in self.call(function, argument, number, pause):
            pass

    @contextmanager
    def _whole(self) -> Generator[None]:
        """Turn what a collective raises when a process is gone into the loss of the whole island."""
        if self._processes == 1:
            yield
            return
        if self._island is None:
            raise LostError("its processes could not join")
        try:
            yield
        except RuntimeError as error:
            raise LostError(f"one of its processes is gone: {error}") from error

    def _limit_threads(self) -> None:
        import torch

        torch.set_num_threads(self._threads)
        self._threads = 0

    @ray.method(concurrency_group="ear")
    def cancel(self, number: int) -> None:
        """Give up all tasks up to `number`."""
        with self._heard:
            self._cancelled = max(self._cancelled, number)
            self._heard.notify_all()

    @ray.method(concurrency_group="ear")
    def node(self) -> str:
        """The node that this process runs on."""
        return ray.get_runtime_context().get_node_id()


@dataclass(frozen=True)
class ObjectShared:
    """`core.groups.Shared` in Ray's object store."""

    reference: Any

    def get(self) -> Any:
        """The value, read from this node's memory."""
        return ray.get(self.reference)


@dataclass(frozen=True)
class _Task:
    """A task in a worker's hands."""

    worker: int
    ticket: Any
    number: int
    replies: Any
    """Ray's stream of references to what the worker answers."""


class RayWorkerGroup(WorkerGroup):
    """`core.groups.WorkerGroup` on Ray actors; the master is the trial's own process.

    Workers hold bundles 1 to `size` - 1 of the placement group. Worker 0 lives in the master's bundle
    without claiming its resources again, and shares the master's GPUs if there are any. A replacement
    takes its predecessor's bundle, which Ray moves when its node is gone, once there is room.

    A worker may be an island of several `processes`, each with `cpu` and `gpu`, in one bundle and so on one
    node. It lives and dies as a whole: the master hears its first process, and tasks run in all.
    """

    def __init__(self, size: int, cpu: float, gpu: float, processes: int = 1) -> None:
        self.size = size
        self._resources = (cpu, gpu)
        self._processes = processes
        self._number = 0
        self._nodes = [""] * size
        self._starting: dict[int, Any] = {}  # by worker: its node, as Ray promises it
        self._actors = [self._start(worker) for worker in range(size)]
        self._busy: dict[int, _Task] = {}  # by worker: what it runs
        self._waiting: dict[int, tuple[Any, ...]] = {}  # by worker: what it runs next
        self._ready: deque[_Task] = deque()

    def _start(self, worker: int) -> list[Any]:
        cpu, gpu = self._resources
        claimed = {"num_cpus": cpu if worker else 0, "num_gpus": gpu if worker else 0}
        remote: Any = cast(Any, ray.remote)(concurrency_groups={"ear": 1})(WorkerActor)
        options = remote.options(**claimed, scheduling_strategy=bundle(worker))
        actors = [
            options.remote(
                max(1, int(cpu)), self._visible(rank) if gpu and not worker else None, self._processes
            )
            for rank in range(self._processes)
        ]
        if self._processes > 1:
            address = actors[0].address.remote()
            for rank, actor in enumerate(actors):
                actor.join.remote(address, rank)
        self._starting[worker] = actors[0].node.remote()
        return actors

    def _visible(self, rank: int) -> str | None:
        """The master's GPUs that a process of worker 0 uses too."""
        devices = os.environ.get("CUDA_VISIBLE_DEVICES")
        if devices is None or self._processes == 1:
            return devices
        each = devices.split(",")
        share = max(1, len(each) // self._processes)
        start = rank * share % len(each)
        return ",".join(each[start : start + share])

    @property
    def nodes(self) -> Sequence[str]:
        """Each worker's node, where it has started last. Waits for all processes to start the first time.

        Raises:
            LostError: one died while it started.
        """
        if unknown := [worker for worker, node in enumerate(self._nodes) if not node]:
            try:
                found = ray.get([self._starting[worker] for worker in unknown])
            except RayActorError as error:
                raise LostError(f"a worker of the trial's group died while it started: {error}") from error
            for worker, node in zip(unknown, found, strict=True):
                self._nodes[worker] = node
                del self._starting[worker]
        return self._nodes

    @property
    def absent(self) -> Collection[int]:
        """Workers whose process hasn't started."""
        for worker, node in list(self._starting.items()):
            if ray.wait([node], timeout=0)[0]:
                with suppress(RayError):  # it died, as its task will tell: it is absent until it is replaced
                    self._nodes[worker] = ray.get(node)
                    del self._starting[worker]
        return self._starting.keys()

    def send(
        self,
        worker: int,
        function: Callable[[Any], Any],
        argument: Any,
        *,
        ticket: Any = None,
        pause: float = 0.0,
    ) -> None:
        """Hand a worker a task, or let it wait for the one before."""
        task = (function, argument, pause, ticket)
        if worker in self._busy:
            self._waiting[worker] = task
        else:
            self._hand(worker, *task)

    def _hand(self, worker: int, function: Any, argument: Any, pause: float, ticket: Any) -> None:
        self._number += 1
        first, *others = self._actors[worker]
        if others:
            argument = ray.put(argument)
        for other in others:
            other.assist.remote(function, argument, self._number, pause)
        replies = first.call.remote(function, argument, self._number, pause)
        self._busy[worker] = _Task(worker, ticket, self._number, replies)

    def receive(self, timeout: float | None = None) -> Reply | None:
        """Return the next reply."""
        if not self._ready:
            if not self._busy:
                if timeout:
                    time.sleep(timeout)
                return None
            running = {task.replies: task for task in self._busy.values()}
            first, _ = ray.wait(list(running), timeout=timeout)
            if not first:
                return None
            ready = ray.wait(list(running), num_returns=len(running), timeout=0)[0] or first
            self._ready.extend(running[replies] for replies in ready)
        task = self._ready.popleft()
        reply = self._reply(task)
        if reply.last:
            del self._busy[task.worker]
            if waiting := self._waiting.pop(task.worker, None):
                self._hand(task.worker, *waiting)
        return reply

    def cancel(self, workers: Iterable[int]) -> None:
        """Tell these workers to give up what they run, and forget what waits for them."""
        for worker in workers:
            self._waiting.pop(worker, None)
            if worker in self._busy:
                for actor in self._actors[worker]:
                    actor.cancel.remote(self._busy[worker].number)

    def replace(self, worker: int) -> None:
        """Start a fresh process in place of a worker, wherever its bundle is by now."""
        self._waiting.pop(worker, None)
        self._busy.pop(worker, None)
        self._ready = deque(task for task in self._ready if task.worker != worker)
        self._kill(worker)
        self._actors[worker] = self._start(worker)

    def share(self, value: Any) -> ObjectShared:
        """Put a value in the object store: one copy a node."""
        return ObjectShared(ray.put(value))

    def now(self) -> float:
        """Seconds on the wall clock."""
        return time.monotonic()

    def close(self) -> None:
        """Kill every worker."""
        for worker in range(self.size):
            self._kill(worker)

    def _kill(self, worker: int) -> None:
        for actor in self._actors[worker]:
            ray.kill(actor)

    def _reply(self, task: _Task) -> Reply:
        worker, ticket = task.worker, task.ticket
        try:
            answer = cast(_Answer, ray.get(next(task.replies)))
        except RayTaskError as error:
            if isinstance(error.cause, LostError):
                return Reply(
                    worker, error=f"worker {worker} died: {error.cause}", ticket=ticket, cause="died"
                )
            text = f"worker {worker} raised: {error}"
            return Reply(worker, error=text, ticket=ticket, cause="raised")
        except RayError as error:  # the process, its node or its objects are gone
            return Reply(worker, error=f"worker {worker} died: {error}", ticket=ticket, cause="died")
        if answer.cancelled:
            return Reply(worker, None, answer.seconds, "cancelled", ticket, "cancelled")
        return Reply(worker, answer.value, answer.seconds, ticket=ticket, last=answer.last)
