"""What a worker does: computes the parts of a round, one after the other.

A part's partial gradients depend on the job's weights and the chunks' samples alone, so whichever
worker computes a part, and however often, sends the same vector.
"""

from __future__ import annotations

import traceback
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...core import Cancelled, Learner, TrialError, cancelled
from ...core.training.learner import seeded
from ...core.training.replica import Replica
from .vectors import Layout, Vector

Indices: TypeAlias = NDArray[np.int64]
"""Samples, by their index in the train split."""


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
    try:
        return Sent(work.job, work.slot, _vector(work))
    except Cancelled:
        raise
    except TrialError as error:
        return Sent(work.job, work.slot, error=str(error))
    except Exception:  # noqa: BLE001 - whatever the user's code raises is that trial's result
        return Sent(work.job, work.slot, error=traceback.format_exc())


def _vector(work: Work) -> Vector:
    learner = work.replica.open()
    layout = Layout(learner.model)
    before = [buffer.clone() for buffer in layout.statistics]
    counters = [counter.clone() for counter in layout.counters]
    used = np.zeros(len(layout.parameters), dtype=bool)
    counts = [0] * len(counters)
    sums = layout.sums(precise=work.precise)
    pieces = _pieces(work)
    if work.prove and pieces:
        _prove(learner, pieces[0][0])
    for piece, coefficient in pieces:
        if cancelled():
            raise Cancelled
        _restore(layout, before, counters)
        loss = _backward(learner, piece)
        counts = [int((now - old).sum()) for now, old in zip(layout.counters, counters, strict=True)]
        if not work.statistics:
            _check_buffers(learner, layout, before, counts)
        used |= [parameter.grad is not None for parameter in layout.parameters]
        layout.add(sums, coefficient, loss, before, len(piece))
    _restore(layout, before, counters)
    learner.model.zero_grad(set_to_none=True)
    buckets = tuple(bucket.numpy() for bucket in sums[:-1])
    return Vector(buckets, sums[-1].numpy(), used, tuple(counts))


def _pieces(work: Work) -> list[tuple[Tensor, float]]:
    """What is computed at once, each with its coefficient. Empty chunks add nothing."""
    pieces: list[tuple[Tensor, float]] = []
    for chunk, coefficient in zip(work.chunks, work.coefficients, strict=True):
        size = work.piece or max(1, len(chunk))
        samples = torch.tensor(chunk)
        pieces += [(samples[start : start + size], coefficient) for start in range(0, len(chunk), size)]
    return pieces


def _backward(learner: Learner, samples: Tensor) -> float:
    learner.model.zero_grad(set_to_none=True)
    total = learner.loss_sum(samples)
    total.backward()  # pyright: ignore[reportUnknownMemberType]
    return float(total.detach())


def _restore(layout: Layout, before: Sequence[Tensor], counters: Sequence[Tensor]) -> None:
    for buffer, old in zip([*layout.statistics, *layout.counters], [*before, *counters], strict=True):
        buffer.copy_(old)


def _check_buffers(learner: Learner, layout: Layout, before: Sequence[Tensor], counts: Sequence[int]) -> None:
    same = all(torch.equal(now, old) for now, old in zip(layout.statistics, before, strict=True))
    if not same or any(counts):
        raise TrialError(
            f"the network of {type(learner).__name__} changes its buffers while it computes the loss, "
            "which one process would do once a batch and workers do once a chunk. Freeze them (`eval()` of "
            "the layer), or set the strategy's `batch_norm: per-chunk` to average the changes"
        )


def _prove(learner: Learner, samples: Tensor) -> None:
    """Compute a chunk twice, with other states of the global generators."""
    device = next((one.device for one in learner.model.parameters()), torch.device("cpu"))
    state = np.random.get_state()  # noqa: NPY002 - for learners that draw from it
    results: list[list[Tensor]] = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002
        with seeded(seed, device):
            loss = _backward(learner, samples)
        grads = [one.grad.clone() for one in learner.model.parameters() if one.grad is not None]
        results.append([torch.tensor(loss), *grads])
    np.random.set_state(state)  # noqa: NPY002
    if len(results[0]) == 1:
        raise TrialError(
            f"{type(learner).__name__}.loss_sum depends on no parameter of its `model`, as a worker sees it: "
            "compute the loss with `self.model`, not with a network from elsewhere"
        )
    pairs = list(zip(*results, strict=False))
    if not all(torch.allclose(*pair, rtol=1e-2, atol=1e-5) for pair in pairs):
        raise TrialError(
            f"{type(learner).__name__}.loss_sum gives another sum each time for the same samples, so that "
            "workers that should agree won't: draw its random numbers from a generator seeded by trial, "
            "step and samples, as `core.training.learner.SupervisedLearner` does"
        )
