"""A trial's further workers, as Ray actors in the trial's placement group.

`Ranks` is for collective strategies: every rank runs the program, joined by torch.distributed.
`RayWorkerGroup` is for coded ones: the master hands functions to workers.
"""

# Ray's own annotations are partial.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from ray.util import get_node_ip_address
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from ..core.errors import LostError, TrialError
from ..core.parallel import Reply
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
        from .trainable import seed_all

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

    def call(self, function: Callable[[Any], Any], argument: Any) -> tuple[Any, float]:
        """Run a function; give its value and the seconds it took."""
        begun = time.perf_counter()
        return function(argument), time.perf_counter() - begun


def _actor(cpu: float, gpu: float, bundle: int) -> Any:
    group = get_current_placement_group()
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle) if group else None
    remote = ray.remote(RankActor)
    return remote.options(num_cpus=cpu, num_gpus=gpu, scheduling_strategy=strategy).remote()


class Ranks:
    """Rank 0's hold on the others. Kept from trial to trial, since joining takes seconds."""

    def __init__(self, size: int, cpu: float, gpu: float) -> None:
        self._actors = [_actor(cpu, gpu, bundle) for bundle in range(1, size)]
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


class RayWorkerGroup:
    """`core.parallel.WorkerGroup` on Ray actors; the master is the trial's own process.

    Workers hold bundles 1 to `size` - 1 of the placement group, worker 0 runs in the master's bundle
    without claiming its resources again.
    """

    def __init__(self, size: int, cpu: float, gpu: float) -> None:
        self.size = size
        self._resources = (cpu, gpu)
        self._actors = [self._start(worker) for worker in range(size)]
        self._pending: dict[Any, int] = {}

    def _start(self, worker: int) -> Any:
        cpu, gpu = self._resources if worker else (0, 0)
        return _actor(cpu, gpu, worker)

    def map(self, function: Callable[[Any], Any], arguments: Sequence[Any]) -> Iterator[Reply]:
        """Run `function(arguments[w])` on each worker; yield replies as they arrive."""
        pending = {
            actor.call.remote(function, argument): worker
            for worker, (actor, argument) in enumerate(zip(self._actors, arguments, strict=True))
        }
        self._pending.update(pending)
        while waiting := [reference for reference in pending if reference in self._pending]:
            ready, _ = ray.wait(waiting, num_returns=1)
            for reference in ready:
                worker = self._pending.pop(reference, None)
                if worker is not None:
                    yield self._reply(reference, worker)

    def cancel(self, workers: Sequence[int]) -> None:
        """Drop what these workers owe. A call that already runs ends by itself, unheard."""
        for reference, worker in list(self._pending.items()):
            if worker in workers:
                del self._pending[reference]
                with suppress(Exception):
                    ray.cancel(reference)

    def replace(self, worker: int) -> None:
        """Start a fresh process in place of a worker."""
        self.cancel([worker])
        ray.kill(self._actors[worker])
        self._actors[worker] = self._start(worker)

    def now(self) -> float:
        """Seconds on the wall clock."""
        return time.monotonic()

    def close(self) -> None:
        """Kill every worker."""
        for actor in self._actors:
            ray.kill(actor)

    def _reply(self, reference: Any, worker: int) -> Reply:
        try:
            value, seconds = ray.get(reference)
        except RayActorError as error:
            return Reply(worker, error=f"worker {worker} died: {error}")
        except RayTaskError as error:
            return Reply(worker, error=f"worker {worker} raised: {error}")
        return Reply(worker, value, seconds)
