"""What a GFlowNet walks: states, actions, masks. And what a batch of its walks looks like."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ...core import Candidate, SpecError

COUNTED = 200_000
"""States at most whose ways are counted one by one."""

Floats: TypeAlias = NDArray[np.float32]
Bools: TypeAlias = NDArray[np.bool_]
Integers: TypeAlias = NDArray[np.int64]

Act: TypeAlias = Callable[[Integers, Floats, Bools], Integers]
"""Chooses actions (n,) for the trajectories `rows` (n,), given features (n, F) and masks (n, A)."""
ActBack: TypeAlias = Callable[[Integers, Integers, Bools], Integers]
"""Chooses which actions (n,) to take back for `rows` (n,), given states (n, S) and what may have led there
(n, A)."""


@dataclass(frozen=True)
class Trajectories:
    """B complete walks with N states together, the final one of each walk not counted.

    States stand in the order of walks, then of steps.
    """

    candidates: Sequence[Candidate]
    """What each walk made: B."""
    owner: Integers
    """Which walk a state belongs to: (N,), ascending."""
    features: Floats
    """(N, F)."""
    mask: Bools
    """Allowed actions: (N, A)."""
    actions: Integers
    """Actions taken: (N,)."""
    parents: Bools | None
    """Actions that may have led to a state: (N, A), no row's but a first state's empty. None: a tree."""
    fixed: NDArray[np.float64]
    """Log probability of a walk's decisions that no network makes: (B,)."""
    states: Integers | None = None
    """States of a graph: (N, S)."""

    @property
    def lengths(self) -> Integers:
        """Number of actions of each walk: (B,)."""
        return np.bincount(self.owner, minlength=len(self.candidates))


def joined(parts: Sequence[Trajectories]) -> Trajectories:
    """Put batches of one environment behind each other."""
    parts = [part for part in parts if part.candidates]
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(len(part.candidates) for part in parts)])
    parents = [part.parents for part in parts if part.parents is not None]
    states = [part.states for part in parts if part.states is not None]
    return Trajectories(
        [candidate for part in parts for candidate in part.candidates],
        np.concatenate([part.owner + start for part, start in zip(parts, starts, strict=False)]),
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.mask for part in parts]),
        np.concatenate([part.actions for part in parts]),
        np.concatenate(parents) if parents else None,
        np.concatenate([part.fixed for part in parts]),
        np.concatenate(states) if states else None,
    )


def taken(walks: Trajectories, rows: Integers) -> Trajectories:
    """Some of the walks, in this order."""
    ends, lengths = np.cumsum(walks.lengths)[rows], walks.lengths[rows]
    index: Integers = np.arange(int(lengths.sum())) + np.repeat(ends - np.cumsum(lengths), lengths)
    return Trajectories(
        [walks.candidates[int(row)] for row in rows],
        np.repeat(np.arange(len(rows)), lengths),
        walks.features[index],
        walks.mask[index],
        walks.actions[index],
        None if walks.parents is None else walks.parents[index],
        walks.fixed[rows],
        None if walks.states is None else walks.states[index],
    )


class Environment(ABC):
    """A directed acyclic graph of states whose complete walks make candidates."""

    features: int
    actions: int
    one_walk: ClassVar[bool] = True
    """Whether a candidate has one walk, so that its probability is that walk's."""

    @abstractmethod
    def forward(self, count: int, act: Act, rng: np.random.Generator) -> Trajectories:
        """Walk `count` times from the first state, in lock step, as `act` says."""

    @abstractmethod
    def backward(
        self, candidates: Sequence[Candidate], act: ActBack | None, rng: np.random.Generator
    ) -> Trajectories:
        """Walk back from each candidate to the first state.

        `act` chooses among the actions that may have led to a state, uniformly where it is None. In a
        tree there is one way back.
        """


class Graph(Environment):
    """A graph with several ways to a candidate; its states are rows of whole numbers.

    It is graded: all ways to a state have the same length. Two actions never lead from one state to the
    same one. The last action is *stop*; from the states where it is allowed, it makes the candidate.
    """

    one_walk = False

    @abstractmethod
    def first(self) -> Integers:
        """The first state: (S,)."""

    @abstractmethod
    def encode(self, states: Integers) -> Floats:
        """Features of states (n, S): (n, F)."""

    @abstractmethod
    def allowed(self, states: Integers) -> Bools:
        """Which actions may be taken: (n, A)."""

    @abstractmethod
    def origins(self, states: Integers) -> Bools:
        """Which actions may have led here: (n, A), never *stop*."""

    @abstractmethod
    def step(self, states: Integers, actions: Integers, sign: int = 1) -> Integers:
        """Take actions, none of them *stop*, or with `sign` -1 take them back."""

    @abstractmethod
    def candidate(self, state: Integers) -> Candidate:
        """What stopping in a state (S,) makes."""

    @abstractmethod
    def state(self, candidate: Candidate) -> Integers:
        """The state that a candidate was made from: (S,)."""

    @property
    def stop(self) -> int:
        """The last action."""
        return self.actions - 1

    def log_ways(self, states: Integers) -> NDArray[np.float64]:
        """Logarithm of the number of ways from the first state to states (n, S): (n,).

        The default counts them from state to state; override it where there is a closed form.

        Raises:
            SpecError: there are too many states for that.
        """
        known = self._ways
        for state in states:
            waiting = [state]
            while waiting:
                here = waiting[-1]
                actions = np.flatnonzero(self.origins(here[None])[0])
                before = self.step(np.repeat(here[None], len(actions), axis=0), actions, -1)
                missing = [one for one in before if one.tobytes() not in known]
                if missing and here.tobytes() not in known:
                    waiting += missing
                    continue
                known[here.tobytes()] = sum(known[one.tobytes()] for one in before) or 1
                waiting.pop()
                if len(known) > COUNTED:
                    raise SpecError(
                        f"more than {COUNTED:,} states lie before a candidate, too many to count the ways "
                        "through them: take `backward: uniform` or `backward: learned`"
                    )
        return np.array([math.log(known[state.tobytes()]) for state in states])

    @cached_property
    def _ways(self) -> dict[bytes, int]:
        """The number of ways to states that were counted."""
        return {}

    def forward(self, count: int, act: Act, rng: np.random.Generator) -> Trajectories:
        states = np.tile(self.first(), (count, 1))
        rows = np.arange(count)
        visited: list[tuple[Integers, Integers, Integers]] = []
        while len(rows):
            here = states[rows]
            actions = act(rows, self.encode(here), self.allowed(here))
            visited.append((rows, here, actions))
            on = actions != self.stop
            states[rows[on]] = self.step(here[on], actions[on])
            rows = rows[on]
        return self._trajectories(states, visited)

    def backward(
        self, candidates: Sequence[Candidate], act: ActBack | None, rng: np.random.Generator
    ) -> Trajectories:
        ends = np.array([self.state(candidate) for candidate in candidates]).reshape(len(candidates), -1)
        rows = np.arange(len(candidates))
        here, actions = ends, np.full(len(rows), self.stop)
        visited: list[tuple[Integers, Integers, Integers]] = []

        def by_chance(rows: Integers, states: Integers, origins: Bools) -> Integers:
            del rows, states
            return uniform(origins, rng)

        choose = act or by_chance
        while True:
            visited.append((rows, here, actions))
            origins = self.origins(here)
            on = origins.any(axis=1)
            if not on.any():
                break
            rows, here = rows[on], here[on]
            actions = choose(rows, here, origins[on])
            here = self.step(here, actions, -1)
        return self._trajectories(ends, visited[::-1], candidates)

    def _trajectories(
        self,
        ends: Integers,
        visited: Sequence[tuple[Integers, Integers, Integers]],
        candidates: Sequence[Candidate] | None = None,
    ) -> Trajectories:
        owner = np.concatenate([rows for rows, _, _ in visited])
        order = np.argsort(owner, kind="stable")
        states = np.concatenate([here for _, here, _ in visited])[order]
        return Trajectories(
            candidates if candidates is not None else [self.candidate(end) for end in ends],
            owner[order],
            self.encode(states),
            self.allowed(states),
            np.concatenate([actions for _, _, actions in visited])[order],
            self.origins(states),
            np.zeros(len(ends)),
            states,
        )


@runtime_checkable
class HasEnvironment(Protocol):
    """A search space that knows a better graph of its own than the tree of its choices."""

    def environment(self) -> Graph:
        """Make the graph; its candidates are the space's."""
        ...


def uniform(mask: Bools, rng: np.random.Generator) -> Integers:
    """Draw one allowed action a row, all equally likely: (n,)."""
    return pick(mask.astype(np.float64), rng)


def pick(weights: NDArray[np.float64], rng: np.random.Generator) -> Integers:
    """Draw one column a row, in proportion to its weight: (n,). A weight of 0 is never drawn."""
    sums = np.cumsum(weights, axis=1)
    wanted = (1.0 - rng.random((len(weights), 1))) * sums[:, -1:]  # in (0, total]
    return np.argmax(sums >= wanted, axis=1)
