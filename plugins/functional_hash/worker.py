"""Processes in which candidates are probed: with limits on time and memory, on one thread.

A candidate's code can hang, take all memory, end its process, print, or change global state. Here all
that happens to a process that is killed and made again. Requests are pickled by this process; answers
are JSON, since whatever a candidate did to the worker must not reach further.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from contextlib import suppress
from typing import IO, Any

import cloudpickle  # pyright: ignore[reportMissingTypeStubs]

from ...core import Candidate, LostError, PluginError, SearchSpace, Shape
from .options import FunctionalHashOptions
from .probing import Outcome
from .signature import Signature

START_SECONDS = 120.0
HEAD = struct.Struct("<Q")
MOST = 64 * 2**20  # bytes of an answer


class OutOfLimits(Exception):
    """A candidate took too long or too much memory, or ended its process: it can't be probed."""


class Workers:
    """Processes that probe for one fingerprint: one for each thread that asks at the same time."""

    def __init__(self, options: FunctionalHashOptions) -> None:
        self._options = options
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()

    def start(self) -> None:
        """Have a worker ready.

        Raises:
            LostError: none could be started.
        """
        worker = _Worker(self._options)
        with self._lock:
            self._idle.append(worker)

    def probe(self, candidate: Candidate, space: SearchSpace, shape: Shape) -> Outcome:
        """Probe in a worker.

        Raises:
            OutOfLimits: the candidate broke a limit.
            LostError: no worker could be started.
            PluginError: the space or the probe function is at fault.
        """
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        if worker is None or not worker.alive:
            worker = _Worker(self._options)
        order = _pack((type(space), space.options, dict(candidate), shape))
        answer = worker.ask(order, self._options.seconds)
        with self._lock:
            self._idle.append(worker)
        if "limit" in answer:
            raise OutOfLimits(str(answer["limit"]))
        if "error" in answer:
            raise PluginError(f"the candidate can't be probed: {answer['error']}")
        found = answer["signature"]
        signature = found and Signature(
            tuple(found["values"]), tuple(found["names"]), found["token"], found["noise"]
        )
        return Outcome(answer["adapter"], answer["quantum"], answer["residual"], signature, answer["token"])


class _Worker:
    def __init__(self, options: FunctionalHashOptions) -> None:
        asked, self._order = os.pipe()
        self._answer, told = os.pipe()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),  # noqa: PTH109
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        program = f"from {__name__} import serve; serve({asked}, {told})"
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(asked, told),
                cwd=tempfile.gettempdir(),  # the current folder may vanish
                env=environment,
                start_new_session=True,  # so that what a candidate starts ends with it
            )
        except OSError as error:
            raise LostError(f"no process could be started to probe candidates: {error}") from error
        finally:
            os.close(asked)
            os.close(told)
        self._end = weakref.finalize(self, _end, self._process, self._order, self._answer)
        try:
            self.ask(_pack(options), START_SECONDS)
        except OutOfLimits as error:
            raise LostError(f"the process that probes candidates didn't start: {error}") from error

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, order: bytes, seconds: float) -> dict[str, Any]:
        """Send an order and wait for its answer; a worker that gives none in time is killed."""
        try:
            _write(self._order, order)
            return json.loads(_read(self._answer, seconds))
        except (OSError, EOFError, ValueError) as error:
            code = None if isinstance(error, TimeoutError) else _code(self._process)
            self._end()
            cause = (
                f"it took over {seconds:g} s" if code is None else f"it ended its process with code {code}"
            )
            raise OutOfLimits(cause) from error


def _code(process: subprocess.Popen[bytes]) -> int | str:
    try:
        return process.wait(1.0)
    except subprocess.TimeoutExpired:
        return "unknown"


def _pack(value: object) -> bytes:
    return cloudpickle.dumps(value)  # pyright: ignore[reportUnknownMemberType]


def _end(process: subprocess.Popen[bytes], *descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(HEAD.pack(len(data)) + data)
    while left:
        left = left[os.write(descriptor, left) :]


def _read(descriptor: int, seconds: float) -> bytes:
    """Read one message.

    Raises:
        TimeoutError: it isn't complete in time.
        EOFError: the other side is gone.
        ValueError: it is too long to be an answer.
    """
    deadline = time.monotonic() + seconds
    data = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if len(data) >= HEAD.size:
                length = HEAD.unpack_from(data)[0]
                if length > MOST:
                    raise ValueError(f"an answer of {length} bytes")
                if len(data) >= HEAD.size + length:
                    return data[HEAD.size :]
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            got = os.read(descriptor, 1 << 16)
            if not got:
                raise EOFError
            data += got


# In the worker ------------------------------------------------------------------------------------


def serve(asked: int, told: int) -> None:
    """Answer orders until the other side closes the pipe."""
    with os.fdopen(asked, "rb") as orders:
        options: FunctionalHashOptions = _next(orders)
        _prepare(options)
        _tell(told, {})
        while (order := _next(orders)) is not None:
            _tell(told, _answer(order, options))


def _prepare(options: FunctionalHashOptions) -> None:
    import resource

    import torch

    from . import estimator, function  # noqa: F401 # pyright: ignore[reportUnusedImport] - no limit counts them
    from .network import NetworkProbe, NetworkSettings, probe_network

    torch.set_num_threads(1)
    # The first network has torch import much more: that is no candidate's time either.
    probe_network(NetworkProbe(lambda: torch.nn.Conv2d(1, 2, 3), (1, 4, 4)), NetworkSettings())
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no path to handle
        pages = int(file.read().split()[0])
    limit = pages * resource.getpagesize() + options.memory * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(order: Any, options: FunctionalHashOptions) -> dict[str, Any]:
    from .probing import probe_candidate

    space_type, space_options, choices, shape = order
    signal.setitimer(signal.ITIMER_REAL, 2 * options.seconds)  # for the day the other side is killed
    try:
        outcome = probe_candidate(Candidate(choices), space_type(space_options), shape, options)
    except MemoryError:
        return {"limit": f"it took over {options.memory} MiB"}
    except (OSError, ImportError) as error:
        return {"limit": f"{type(error).__name__}: {error}"}
    except Exception as error:  # noqa: BLE001 - told to the other side
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return {**vars(outcome), "signature": outcome.signature and vars(outcome.signature)}


def _next(orders: IO[bytes]) -> Any:
    head = orders.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    return cloudpickle.loads(orders.read(HEAD.unpack(head)[0]))


def _tell(told: int, answer: dict[str, Any]) -> None:
    _write(told, json.dumps(answer).encode())
