"""A trial's further workers, as Ray actors in the trial's placement group.

`Ranks` is for collective strategies: every rank runs the program, joined by torch.distributed.
`RayWorkerGroup` is for coded ones: the master hands functions to workers.
"""

# Ray's own annotations are partial.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError
from ray.util import get_node_ip_address
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from ..core.errors import LostError, TrialError
from ..core.parallel import Cancelled, Reply, WorkerGroup, answers, cancellable
from ..core.seeds import seed_all
from .runtime import Remit
from .trial import Json, TrialOrder, WorkerTrial

if TYPE_CHECKING:
    from torch import Tensor

COLLECTIVE_TIMEOUT = timedelta(minutes=10)
JOIN_SECONDS = 30.0  # how long rank 0 waits, once through, for the others to end

log = logging.getLogger(__name__)


class TorchCollective:
    """`core.parallel.Collective` over torch.distributed: gloo on CPUs, NCCL on GPUs."""

    def __init__(self, address: str, rank: int, size: int, *, gpu: bool) -> None:
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()
        dist.init_process_group(
            "nccl" if gpu else "gloo",
            init_method=address,
            rank=rank,
            world_size=size,
            timeout=COLLECTIVE_TIMEOUT,
        )
        self._dist = dist
        self.rank = rank
        self.size = size

    def all_reduce(self, tensor: Tensor) -> None:
        """Sum over ranks, in place."""
        self._dist.all_reduce(tensor)

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """Every rank's tensor, in rank order."""
        import torch

        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        self._dist.all_gather(parts, tensor)
        return parts

    def close(self) -> None:
        """Leave the group."""
        with suppress(Exception):
            self._dist.destroy_process_group()


class RankActor:
    """One further rank: runs the program beside rank 0."""

    def join(self, address: str, rank: int, size: int, gpu: bool) -> None:
        """Enter the process group."""
        self._collective = TorchCollective(address, rank, size, gpu=gpu)

    def run(self, remit: Json, order: Json) -> None:
        """Run one trial's program; its exception, if any, goes to rank 0."""
        known = Remit.of(remit)
        job = known.job()
        stage = known.stage_of(job)
        trial = WorkerTrial(
            TrialOrder(**order),
            stage,
            known.task(job),
            job.registry,
            known.place(self._collective),
            lambda _: None,
        )
        seed_all(trial.seed)
        stage.program.run(trial)


def _bundle(index: int) -> PlacementGroupSchedulingStrategy | None:
    """A bundle of the trial's placement group; None outside of one."""
    group = get_current_placement_group()
    return PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index) if group else None


class Ranks:
    """Rank 0's hold on the others. Kept from trial to trial, since joining takes seconds."""

    def __init__(self, size: int, cpu: float, gpu: float) -> None:
        remote: Any = ray.remote(RankActor)
        self._actors = [
            remote.options(num_cpus=cpu, num_gpus=gpu, scheduling_strategy=_bundle(index)).remote()
            for index in range(1, size)
        ]
        with socket.socket() as probe:
            probe.bind(("", 0))
            port = probe.getsockname()[1]
        address = f"tcp://{get_node_ip_address()}:{port}"
        joining = [
            actor.join.remote(address, rank, size, gpu > 0)
            for rank, actor in enumerate(self._actors, start=1)
        ]
        self.collective = TorchCollective(address, 0, size, gpu=gpu > 0)
        ray.get(joining)
        self._runs: list[Any] = []

    def start(self, remit: Remit, order: TrialOrder) -> None:
        """Let the other ranks run the trial too."""
        self._runs = [actor.run.remote(remit.data(), order.data()) for actor in self._actors]

    def join(self, *, failed: bool) -> Exception | None:
        """Wait for the other ranks; give what went wrong with them, None when nothing did.

        With `failed`, rank 0 has an error of its own: only a dead rank, which may be its cause, counts.
        """
        try:
            ray.get(self._runs, timeout=1.0 if failed else JOIN_SECONDS)
        except RayActorError as error:
            return LostError(f"a worker of the trial's group died: {error}")
        except (RayTaskError, GetTimeoutError) as error:
            return None if failed else TrialError(f"rank 0 finished, but another rank did not: {error}")
        return None

    def close(self) -> None:
        """Kill the other ranks and leave the group."""
        for actor in self._actors:
            ray.kill(actor)
        self.collective.close()


@dataclass(frozen=True)
class _Answer:
    """What a worker says of its task, `seconds` after it began."""

    value: Any
    last: bool
    seconds: float
    cancelled: bool = False


class WorkerActor:
    """One worker of a coded group: a task at a time, and an ear for cancellations beside it.

    A method that runs can't be interrupted by Ray, so that a cancellation is a number that the task
    looks at: tasks up to it are given up.
    """

    def __init__(self, threads: int, visible: str | None) -> None:
        if visible is not None:  # before CUDA starts
            os.environ["CUDA_VISIBLE_DEVICES"] = visible
        self._threads = threads
        self._cancelled = 0
        self._heard = threading.Condition()

    def call(
        self, function: Callable[[Any], Any], argument: Any, number: int, pause: float
    ) -> Iterator[_Answer]:
        """Run task `number`, after a pause; give its answers. The last one may be that it was given up."""
        if self._threads:
            self._limit_threads()
        begun = time.perf_counter()
        with self._heard:
            given_up = self._heard.wait_for(lambda: self._cancelled >= number, timeout=pause)
        if not given_up:
            with suppress(Cancelled), cancellable(lambda: self._cancelled >= number):
                for value, last in answers(function, argument):
                    yield _Answer(value, last, time.perf_counter() - begun)
                return
        yield _Answer(None, last=True, seconds=time.perf_counter() - begun, cancelled=True)

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
    """`core.parallel.Shared` in Ray's object store."""

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
    """`core.parallel.WorkerGroup` on Ray actors; the master is the trial's own process.

    Workers hold bundles 1 to `size` - 1 of the placement group. Worker 0 lives in the master's bundle
    without claiming its resources again, and shares the master's GPU if there is one. A replacement
    takes its predecessor's bundle, which Ray moves when its node is gone.
    """

    def __init__(self, size: int, cpu: float, gpu: float) -> None:
        self.size = size
        self._resources = (cpu, gpu)
        self._number = 0
        self._actors = [self._start(worker) for worker in range(size)]
        self._busy: dict[int, _Task] = {}  # by worker: what it runs
        self._waiting: dict[int, tuple[Any, ...]] = {}  # by worker: what it runs next
        self._ready: deque[_Task] = deque()
        self._nodes: list[str] = []

    def _start(self, worker: int) -> Any:
        cpu, gpu = self._resources
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") if gpu and not worker else None
        claimed = {"num_cpus": cpu if worker else 0, "num_gpus": gpu if worker else 0}
        remote: Any = cast(Any, ray.remote)(concurrency_groups={"ear": 1})(WorkerActor)
        options = remote.options(**claimed, scheduling_strategy=_bundle(worker))
        return options.remote(max(1, int(cpu)), visible)

    @property
    def nodes(self) -> Sequence[str]:
        """Each worker's node, as it started. Waits for all processes to start.

        Raises:
            LostError: one died while it started.
        """
        if not self._nodes:
            try:
                self._nodes = list(ray.get([actor.node.remote() for actor in self._actors]))
            except RayActorError as error:
                raise LostError(f"a worker of the trial's group died while it started: {error}") from error
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
        """Hand a worker a task, or let it wait for the one before."""
        task = (function, argument, pause, ticket)
        if worker in self._busy:
            self._waiting[worker] = task
        else:
            self._hand(worker, *task)

    def _hand(self, worker: int, function: Any, argument: Any, pause: float, ticket: Any) -> None:
        self._number += 1
        replies = self._actors[worker].call.remote(function, argument, self._number, pause)
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
                self._actors[worker].cancel.remote(self._busy[worker].number)

    def replace(self, worker: int) -> None:
        """Start a fresh process in place of a worker, wherever its bundle is by now."""
        self._waiting.pop(worker, None)
        self._busy.pop(worker, None)
        self._ready = deque(task for task in self._ready if task.worker != worker)
        ray.kill(self._actors[worker])
        self._actors[worker] = self._start(worker)

    def share(self, value: Any) -> ObjectShared:
        """Put a value in the object store: one copy a node."""
        return ObjectShared(ray.put(value))

    def now(self) -> float:
        """Seconds on the wall clock."""
        return time.monotonic()

    def close(self) -> None:
        """Kill every worker."""
        for actor in self._actors:
            ray.kill(actor)

    def _reply(self, task: _Task) -> Reply:
        worker, ticket = task.worker, task.ticket
        try:
            answer = cast(_Answer, ray.get(next(task.replies)))
        except RayTaskError as error:
            text = f"worker {worker} raised: {error}"
            return Reply(worker, error=text, ticket=ticket, cause="raised")
        except RayError as error:  # the process, its node or its objects are gone
            return Reply(worker, error=f"worker {worker} died: {error}", ticket=ticket, cause="died")
        if answer.cancelled:
            return Reply(worker, None, answer.seconds, "cancelled", ticket, "cancelled")
        return Reply(worker, answer.value, answer.seconds, ticket=ticket, last=answer.last)
