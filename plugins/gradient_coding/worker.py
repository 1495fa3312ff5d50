"""What a worker does: computes the parts of a round, one after the other.

A part's partial gradients depend on the job's weights and the chunks' samples alone, so whichever
worker computes a part, and however often, sends the same vector. A worker of several processes shares a
part's samples out among them.
"""

from __future__ import annotations

import traceback
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...core import Cancelled, Collective, Learner, TrialError, cancelled, island
from ...core.training.replica import Replica
from .rules import check_buffers, prove
from .vectors import Layout, Vector

Indices: TypeAlias = NDArray[np.int64]
"""Samples, by their index in the train split."""

ERROR = 4096  # bytes of an error's text that a process tells the others of its worker


@dataclass(frozen=True)
class Work:
    """A part as a worker gets it: samples instead of the numbers of chunks."""

    job: int
    slot: int
    replica: Replica
    chunks: tuple[Indices, ...]
    coefficients: tuple[float, ...]
    precise: bool
    """Whether vectors travel in double precision."""
    piece: int | None = None
    """Most samples to compute at once; None: a whole chunk."""
    statistics: bool = False
    """Whether the network may change its buffers."""
    prove: bool = False
    """Whether to check that a chunk's sum is a function of its samples."""


@dataclass(frozen=True)
class Sent:
    """A worker's reply for one part: its vector, or what the learner raised."""

    job: int
    slot: int
    vector: Vector | None = None
    error: str | None = None

    @property
    def nbytes(self) -> int:
        """Size of the vector on the wire, in bytes."""
        return 0 if self.vector is None else self.vector.nbytes


def compute(works: Sequence[Work]) -> Generator[Sent, None, Sent | None]:
    """Compute parts, and give each as soon as it is there. One that fails leaves the others alone: they
    may be other networks'.

    Raises:
        Cancelled: the master no longer waits for them.
    """
    for work in works[:-1]:
        yield _sent(work)
    return _sent(works[-1]) if works else None


def _sent(work: Work) -> Sent:
    processes = island()
    try:
        found = _sums(work, processes)
    except Cancelled:
        found = None
    except TrialError as error:
        found = str(error)
    except Exception:  # noqa: BLE001 - whatever the user's code raises is that trial's result
        found = traceback.format_exc()
    if processes is not None:
        found = _together(found, processes)
    if found is None:
        raise Cancelled
    if isinstance(found, str):
        return Sent(work.job, work.slot, error=found)
    buckets = tuple(bucket.numpy() for bucket in found.sums[:-1])
    vector = Vector(buckets, found.sums[-1].numpy(), found.used.numpy(), tuple(map(int, found.counts)))
    return Sent(work.job, work.slot, vector)


@dataclass(frozen=True)
class _Sums:
    """A vector in the making: sums, which parameters are used (bool), changes of counters (int64)."""

    sums: list[Tensor]
    used: Tensor
    counts: Tensor


def _sums(work: Work, processes: Collective | None) -> _Sums:
    """What this process computes of a part.

    Raises:
        Cancelled: the master no longer waits for it.
    """
    learner = work.replica.open()
    layout = Layout(learner.model)
    before = [buffer.clone() for buffer in layout.statistics]
    counters = [counter.clone() for counter in layout.counters]
    used = torch.zeros(len(layout.parameters), dtype=torch.bool)
    counts = [0] * len(counters)
    sums = layout.sums(precise=work.precise)
    pieces = _pieces(work, processes)
    if work.prove and pieces:
        prove(learner, partial(_backward, learner, pieces[0][0]))
    for piece, coefficient in pieces:
        if cancelled():
            raise Cancelled
        _restore(layout, before, counters)
        loss = _backward(learner, piece)
        counts = [int((now - old).sum()) for now, old in zip(layout.counters, counters, strict=True)]
        if not work.statistics:
            check_buffers(learner, layout.statistics, before, counts)
        used |= torch.tensor(
            [parameter.grad is not None for parameter in layout.parameters], dtype=torch.bool
        )
        layout.add(sums, coefficient, loss, before, len(piece))
    _restore(layout, before, counters)
    learner.model.zero_grad(set_to_none=True)
    return _Sums(sums, used, torch.tensor(counts, dtype=torch.int64))


def _together(found: _Sums | str | None, processes: Collective) -> _Sums | str | None:
    """Add up what the processes of a worker have computed, without a gradient exchanged before, as
    DistributedDataParallel does under `no_sync`. If one gave up (None), all do; what one raised is the
    worker's answer.
    """
    error = found.encode(errors="replace")[-ERROR:] if isinstance(found, str) else b""
    told = torch.zeros(2, dtype=torch.int64)
    told[0], told[1] = found is None, len(error)
    everyone = torch.stack(processes.all_gather(told))
    if everyone[:, 0].any():
        return None
    if everyone[:, 1].any():
        text = torch.zeros(ERROR, dtype=torch.uint8)
        text[: len(error)] = torch.tensor(list(error), dtype=torch.uint8)
        texts = processes.all_gather(text)
        first = int(everyone[:, 1].nonzero()[0])
        return texts[first][: int(everyone[first, 1])].numpy().tobytes().decode(errors="replace")
    assert isinstance(found, _Sums)
    for total in found.sums:
        processes.all_reduce(total)
    used = found.used.to(torch.int64)
    processes.all_reduce(used)
    counts = (
        torch.stack(processes.all_gather(found.counts)).amax(dim=0) if len(found.counts) else found.counts
    )
    return _Sums(found.sums, used > 0, counts)


def _pieces(work: Work, processes: Collective | None) -> list[tuple[Tensor, float]]:
    """What this process computes at once, each with its coefficient. Empty chunks add nothing.

    Every worker cuts a chunk alike, so that all compute the same.
    """
    share, rank = (1, 0) if processes is None else (processes.size, processes.rank)
    pieces: list[tuple[Tensor, float]] = []
    for chunk, coefficient in zip(work.chunks, work.coefficients, strict=True):
        # What changes buffers by chunk, such as BatchNorm, needs its chunk in one piece.
        whole = len(chunk) if work.statistics else -(-len(chunk) // share)
        size = max(1, min(work.piece or whole, whole))
        samples = torch.tensor(chunk)
        pieces += [(samples[start : start + size], coefficient) for start in range(0, len(chunk), size)]
    return pieces[rank::share]


def _backward(learner: Learner, samples: Tensor) -> float:
    learner.model.zero_grad(set_to_none=True)
    total = learner.loss_sum(samples)
    total.backward()  # pyright: ignore[reportUnknownMemberType]
    return float(total.detach())


def _restore(layout: Layout, before: Sequence[Tensor], counters: Sequence[Tensor]) -> None:
    for buffer, old in zip([*layout.statistics, *layout.counters], [*before, *counters], strict=True):
        buffer.copy_(old)
