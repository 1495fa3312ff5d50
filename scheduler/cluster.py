"""The Ray cluster: starting or joining it, and what a job's trials take of it."""

# Ray's own annotations are partial.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.crash import VARIABLE
from ..core.errors import ClusterError, SpecError
from ..core.job import Job, Stage
from .settings import Settings

AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")
STARTING_SECONDS = 10.0
KNOCK_SECONDS = 10.0
PASSED_ON = (VARIABLE, *AWS)  # of the driver's environment, to the workers of a cluster

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Capacity:
    """CPU cores and GPUs, of the whole cluster and of its largest node."""

    cpu: float
    gpu: float
    node_cpu: float
    node_gpu: float

    @classmethod
    def of(cls, nodes: Sequence[Mapping[str, float]]) -> Capacity:
        """The capacity of nodes with these resources, as Ray names them."""
        cpus = [node.get("CPU", 0.0) for node in nodes]
        gpus = [node.get("GPU", 0.0) for node in nodes]
        return cls(sum(cpus), sum(gpus), max(cpus, default=0.0), max(gpus, default=0.0))


def local_capacity(settings: Settings) -> Capacity:
    """This machine's capacity, without starting Ray."""
    cpus = float(settings.cpus or len(os.sched_getaffinity(0)))
    gpus = float(_count_gpus())
    return Capacity(cpus, gpus, cpus, gpus)


def _count_gpus() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    return sum(path.name[6:].isdigit() for path in Path("/dev").glob("nvidia*"))


def cluster_capacity() -> Capacity:
    """The connected cluster's capacity. One that is just starting is given time to have any."""
    import ray

    until = time.monotonic() + STARTING_SECONDS
    while True:
        found = Capacity.of([node["Resources"] for node in ray.nodes() if node["Alive"]])
        if found.cpu or found.gpu or time.monotonic() >= until:
            return found
        time.sleep(0.1)


def workers_of(stage: Stage) -> int:
    """Workers of one trial of the stage."""
    return stage.spec.workers.count if stage.spec.workers else 1


def processes_of(stage: Stage) -> int:
    """Processes of each worker, which sit on one node."""
    return stage.spec.workers.processes if stage.spec.workers else 1


def concurrency(stage: Stage, capacity: Capacity) -> int:
    """How many of the stage's launches fit at once (and the file allows): at least 1."""
    count = workers_of(stage) * processes_of(stage)
    fits = [
        available / (wanted * count)
        for wanted, available in (
            (stage.resources.cpu, capacity.cpu),
            (stage.resources.gpu, capacity.gpu),
        )
        if wanted > 0
    ]
    room = math.floor(min(fits) + 1e-9) if fits else 16
    return max(1, min(room, stage.spec.concurrency or room))


def check_fit(job: Job, capacity: Capacity) -> None:
    """Refuse a job whose trials can never be placed.

    Raises:
        SpecError: with what is asked, what there is, and what to change.
    """
    for stage in job.stages:
        count, processes = workers_of(stage), processes_of(stage)
        for name, each, node, total in (
            ("cpu", stage.resources.cpu, capacity.node_cpu, capacity.cpu),
            ("gpu", stage.resources.gpu, capacity.node_gpu, capacity.gpu),
        ):
            wanted = each * processes
            if wanted > node or wanted * count > total:
                asked = f"{count} workers of {wanted:g} {name} each" if count > 1 else f"{wanted:g} {name}"
                raise SpecError(
                    f"stage {stage.spec.name!r}: a trial asks for {asked}, but the largest node has "
                    f"{node:g} and the cluster {total:g}. Lower `resources: {{{name}: …}}` or "
                    "`workers: {count: …}`, or take a larger cluster (--address)"
                )


def _knock(address: str) -> None:
    """Say at once that nobody answers at host:port; Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if "/" in host or not port.isdigit():
        return  # `auto`, or Ray's to understand
    try:
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()
    except OSError as error:
        raise ClusterError(
            f"can't reach the Ray cluster at {address}: {error}. Give the address of its head (`ray status` "
            "there shows whether it runs; its port is 6379 by default), or see `orchestrate doctor`"
        ) from error


def connect(settings: Settings) -> None:
    """Start Ray on this machine, or join the cluster at `settings.address`; do nothing when connected.

    Workers import a user's own modules from the folder the command was run in.

    Raises:
        ClusterError: the cluster doesn't answer.
    """
    import ray

    if ray.is_initialized():
        return
    if settings.address:
        _knock(settings.address)
    _hush()
    options: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
    try:
        if settings.address:
            environment = {"env_vars": worker_environment()}
            ray.init(address=settings.address, runtime_env=environment, **options)
        else:
            # Its workers inherit this process's environment. With a `runtime_env` instead, Ray would not use
            # the processes that it has started in advance.
            with changed_environment(worker_environment()):
                ray.init(
                    address="local",  # the default would join any cluster that was started on this machine
                    num_cpus=settings.cpus or len(os.sched_getaffinity(0)),
                    include_dashboard=False,
                    object_store_memory=256 * 1024 * 1024,
                    **options,
                )
    except Exception as error:  # Ray raises plain ones when a part of it doesn't start in time
        where = f"the Ray cluster at {settings.address}" if settings.address else "Ray on this machine"
        token = (
            ". Where it asks for a token, set RAY_AUTH_MODE=token"
            if settings.address and os.environ.get("RAY_AUTH_MODE") != "token"
            else ""
        )
        raise ClusterError(f"can't reach {where}: {error}{token}. See `orchestrate doctor`") from error


def _hush() -> None:
    """Ray prints each worker's death, and a notice on its tokens, into the terminal; here a lost trial
    is recorded with its cause.
    """
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    from ray._private import worker

    def log_instead(data: Mapping[str, Any], **_options: Any) -> None:
        log.info("%s", data.get("lines", data))

    worker.print_to_stdstream = log_instead


def worker_environment() -> Mapping[str, str]:
    """Environment of every worker process: quiet, and able to import what the driver can."""
    path = [
        str(Path.cwd()),
        *(entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry),
    ]
    return {
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(path)),
        "PYTHONWARNINGS": "ignore",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "PL_DISABLE_FORK": "1",  # a Lightning that forks hangs in Ray's workers (ray-project/ray#28197)
    }


@contextmanager
def changed_environment(values: Mapping[str, str]) -> Generator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
