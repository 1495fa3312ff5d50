"""The further ranks of a trial with a collective strategy: Ray actors in the trial's placement group that
run the program beside rank 0, joined by torch.distributed.
"""

# Ray's own annotations are partial.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import socket
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from ray.util import get_node_ip_address
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from ..core.errors import LostError, TrialError
from ..core.seeds import seed_all
from .runtime import Remit
from .trial import Json, TrialOrder

if TYPE_CHECKING:
    from torch import Tensor

COLLECTIVE_TIMEOUT = timedelta(minutes=10)
JOIN_SECONDS = 30.0  # how long rank 0 waits, once through, for the others to end


class TorchCollective:
    """`core.groups.Collective` over torch.distributed: gloo on CPUs, NCCL on GPUs."""

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

    def all_to_all(self, tensor: Tensor) -> Tensor:
        """Row r to rank r; the rows for this one."""
        import torch

        rows = torch.empty_like(tensor)
        self._dist.all_to_all_single(rows, tensor)
        return rows

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
        stage, trial = Remit.of(remit).trial(order, self._collective)
        seed_all(trial.seed)
        stage.program.run(trial)


def free_address() -> str:
    """Where a process of this node can be met."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return f"tcp://{get_node_ip_address()}:{probe.getsockname()[1]}"


def bundle(index: int) -> PlacementGroupSchedulingStrategy | None:
    """A bundle of the trial's placement group; None outside of one."""
    group = get_current_placement_group()
    return PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index) if group else None


class Ranks:
    """Rank 0's hold on the others. Kept from trial to trial, since joining takes seconds."""

    def __init__(self, size: int, cpu: float, gpu: float) -> None:
        remote: Any = ray.remote(RankActor)
        self._actors = [
            remote.options(num_cpus=cpu, num_gpus=gpu, scheduling_strategy=bundle(index)).remote()
            for index in range(1, size)
        ]
        address = free_address()
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
