"""The state machine that every scheme is: assign, collect, may it close?, close, decode.

Nothing here knows of time, transport or tensors: a simulation and a cluster drive the same object.
Workers are 0 to n - 1; rounds and jobs count from 1, as in the papers. A job is one gradient; job t
is issued in round t and decodes at the end of round t + `delay` at the latest.

    while there is work:
        assignment = scheme.assign()                # opens a round
        ... run scheme.parts(worker) on each worker with a load; collect who replied ...
        if scheme.feasible(replied):                # or scheme.conforms(replied)
            closed = scheme.close(replied)
            for job in closed.decodable:
                decoding = scheme.decode(job)       # which replies, with which weights
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..codes.base import Floats, Mask


@dataclass(frozen=True, slots=True)
class Part:
    """A mini-task: one linear combination of a job's chunk gradients, with the job's own weights.

    `slot` numbers the rounds of a job from 0: the part is worked on in round job + slot (in a scheme
    without delay, the parts of the one round). Worker, job and slot together identify a reply, whoever
    computes it and however often.
    """

    job: int
    slot: int
    chunks: tuple[int, ...]
    coefficients: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Assignment:
    """A round that was opened. `job` is the job issued in it, if any.

    `shares` tells for each job that is worked on the part of its samples that each worker computes, (n,);
    `loads` (n,) is their sum. A worker with load 0 has nothing to do, sends nothing and is no straggler.
    """

    round: int
    job: int | None
    shares: Mapping[int, Floats]
    loads: Floats

    @property
    def working(self) -> Mask:
        """Workers that have something to do, shape (n,)."""
        return self.loads > 0


@dataclass(frozen=True, slots=True)
class Closed:
    """A round that was closed: who straggled (n,), and which jobs decode now that didn't before."""

    round: int
    stragglers: Mask
    decodable: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Term:
    """One reply in a job's sum: the vector that `worker` sent for `slot` of the job, times `weight`."""

    worker: int
    slot: int
    weight: float


@dataclass(frozen=True, slots=True)
class Decoding:
    """A job's gradient as a sum of replies.

    `residual` is the largest deviation of a chunk's total coefficient from 1: rounding, unless
    `exact` is false.
    """

    job: int
    terms: tuple[Term, ...]
    residual: float
    exact: bool = True


class Scheme(ABC):
    """A coding scheme over n workers.

    Subclasses set `fractions` (chunks,), each chunk's part of a job's samples (see `cut`); `delay`,
    T; `load`, the largest part of a job that a worker computes in a round once all slots are busy;
    and `messages`, the most vectors that a worker sends in a round.
    """

    name: str
    exact: ClassVar[bool] = True
    """Whether decoded gradients are those of the whole batch."""

    coverage: float = 1.0
    """The least part of a job's samples that a gradient is made of."""

    milestones: Floats = np.ones(1)
    """The shares of a worker's load after which it has sent something that counts by itself, (k,)."""

    fractions: Floats
    delay: int
    load: float
    messages: int = 1

    def __init__(self, n: int) -> None:
        self.n = n
        self.round = 0
        self.is_open = False

    @property
    @abstractmethod
    def parameters(self) -> Mapping[str, int]:
        """The scheme's parameters by the papers' names, n left out."""

    @property
    @abstractmethod
    def pending(self) -> tuple[int, ...]:
        """Jobs that were issued and don't decode yet, oldest first."""

    def assign(self, new: bool = True) -> Assignment:
        """Open the next round. Without `new` it issues no job: old ones are finished (draining).

        Raises:
            RuntimeError: a round is open.
        """
        if self.is_open:
            raise RuntimeError(f"round {self.round} is open: close it first")
        self.round += 1
        self.is_open = True
        shares = self._assign(new)
        loads = sum(shares.values(), np.zeros(self.n))
        return Assignment(self.round, self.round if new else None, shares, loads)

    @abstractmethod
    def parts(self, worker: int) -> tuple[Part, ...]:
        """What `worker` computes in the open round, the oldest job first. Each part is one vector."""

    @abstractmethod
    def conforms(self, replied: Mask) -> bool:
        """Tell whether the round, closed with these replies (n,), keeps to the straggler model that
        the scheme is made for, given all rounds before. Never true without `feasible`.
        """

    @abstractmethod
    def feasible(self, replied: Mask) -> bool:
        """Tell whether each pending job decodes in time if the round closes with these replies (n,)
        and no later round has a straggler. True once everybody has replied.
        """

    def covers(self, done: NDArray[np.bool_]) -> bool:
        """`feasible`, of what each worker has sent: (n, k), true where it has reached a milestone."""
        return self.feasible(done[:, -1])

    def take(self, done: NDArray[np.bool_]) -> None:  # noqa: B027 - few schemes have more than one
        """File what workers have sent before the last milestone, (n, k)."""

    def approximates(self, replied: Mask) -> bool:
        """Tell whether the round may close with these replies (n,) although they don't decode exactly.

        False unless a scheme was told how much error is allowed.
        """
        return False

    def close(self, replied: Mask) -> Closed:
        """End the round with these replies (n,), each of them whole.

        Raises:
            RuntimeError: no round is open, or a job could not be decoded in time any more.
        """
        if not self.is_open:
            raise RuntimeError("no round is open")
        if not (self.feasible(replied) or self.approximates(replied)):
            raise RuntimeError(f"round {self.round} can't close yet: a job would never decode")
        self.is_open = False
        return self._close(replied)

    def bank(self, worker: int, part: Part) -> bool:
        """File a single part: of a straggler's reply that came late, or of one not whole yet.

        Tells whether it is of use. Duplicates, and parts of jobs that are over, are not.
        """
        return False

    @abstractmethod
    def decode(self, job: int) -> Decoding:
        """How a decodable job's gradient is made from replies. The job is forgotten afterwards.

        Raises:
            KeyError: the job is not waiting to be decoded.
        """

    @abstractmethod
    def discard(self, job: int) -> None:
        """Give a job up, decodable or not: no more work is assigned for it."""

    @abstractmethod
    def _assign(self, new: bool) -> Mapping[int, Floats]:
        """Plan the round `self.round`; returns its shares, as `Assignment` has them."""

    @abstractmethod
    def _close(self, replied: Mask) -> Closed:
        """File the replies of the round."""

    def describe(self) -> dict[str, Any]:
        """Name, parameters, load and delay, as they are recorded."""
        return {
            "scheme": self.name,
            "workers": self.n,
            **self.parameters,
            "load": self.load,
            "delay": self.delay,
        }

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value}" for name, value in self.parameters.items())
        return f"{self.name}({self.n}{', ' if shown else ''}{shown})"


def cut(fractions: Sequence[float] | Floats, samples: int) -> list[range]:
    """Cut `samples` positions into consecutive chunks by cumulative fractions, rounded.

    Chunks of a small batch may be empty: their gradient is zero. Every position is in one chunk.
    """
    ends = np.rint(np.cumsum(fractions) * samples).astype(int)
    ends[-1] = samples
    return [range(start, end) for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]
