"""Any search space as an environment: its program of choices, walked by a batch in lock step.

Each walk runs the space's own code in a greenlet that stops at every decision. The state is what was
decided so far, so the graph is a tree: a candidate has one walk, and P_B is 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, cast

import numpy as np
from greenlet import getcurrent, greenlet
from numpy.typing import NDArray

from ...core import Candidate, Categorical, Choice, SearchSpace, Value
from .environment import Act, ActBack, Bools, Environment, Floats, Integers, Trajectories
from .slots import Division, Slot, find_slots, option_index

Decision: TypeAlias = tuple[int, int]
"""Index of a slot, and how many parts there are."""

Walk: TypeAlias = "Callable[..., Candidate | Decision]"
"""Goes on with one walk, given the last decision's answer, to its next decision or its end."""

PATHS = 20_000
"""Candidates whose decisions are kept, since replay walks the good ones again and again."""

UNSEEN: Decision = -1, 0
"""Of a slot that isn't known: no number of parts is small enough for it."""


class Walks(Environment):
    """The tree of a space's decisions.

    Actions are the decisions' parts, those of all slots behind each other. Features are the actions
    taken, the place of each ordered one in its range, and the slot to decide next.

    A decision that `find_slots` missed, or that has more parts than were seen, isn't shown to the
    policy: it is answered uniformly, and its probability is kept.
    """

    def __init__(
        self, space: SearchSpace, division: Division | None = None, known: Iterable[Candidate] = ()
    ) -> None:
        self.space = space
        self.division = division or Division()
        self.slots: Mapping[str, Slot] = find_slots(space, self.division, known)
        self._paths: dict[Candidate, list[tuple[str, int, int]]] = {}
        self._index = {name: (index, slot.count) for index, (name, slot) in enumerate(self.slots.items())}
        self._offsets = np.array([slot.offset for slot in self.slots.values()], np.int64)
        self.actions = max(1, sum(slot.count for slot in self.slots.values()))
        ordered = [slot for slot in self.slots.values() if slot.ordered]
        self._table = np.eye(self.actions, self.actions + len(ordered), dtype=np.float32)
        for column, slot in enumerate(ordered, self.actions):
            self._table[slot.offset : slot.offset + slot.count, column] = np.linspace(0, 1, slot.count)
        self._pointers = np.eye(max(1, len(self.slots)), dtype=np.float32)
        self._counts = np.array([slot.count for slot in self.slots.values()], np.int64)
        place = np.arange(self.actions) - self._offsets[:, None]
        self._masks = (place >= 0) & (place < self._counts[:, None])
        self.features = self._table.shape[1] + len(self._pointers)

    def forward(self, count: int, act: Act, rng: np.random.Generator) -> Trajectories:
        fixed = np.zeros(count)
        walks = [self._walk(row, rng, fixed) for row in range(count)]
        made = [walk() for walk in walks]
        taken = np.zeros((count, self._table.shape[1]), np.float32)
        record: list[tuple[Integers, Integers, Integers, Integers]] = []
        under_way: list[int] = [row for row in range(count) if type(made[row]) is tuple]
        while under_way:
            rows = np.array(under_way, np.int64)
            slots, counts = np.array([made[row] for row in under_way], np.int64).T
            actions = act(rows, self._features(taken[rows], slots), self._mask(slots, counts))
            record.append((rows, slots, counts, actions))
            taken[rows] += self._table[actions]
            for row, index in zip(under_way, (actions - self._offsets[slots]).tolist(), strict=True):
                made[row] = walks[row](index)
            under_way = [row for row in under_way if type(made[row]) is tuple]
        candidates = cast("list[Candidate]", made)
        table = np.array([np.concatenate(column) for column in zip(*record, strict=True)], np.int64)
        table = table.reshape(4, -1)
        return self._trajectories(candidates, table[:, np.argsort(table[0], kind="stable")], fixed)

    def backward(
        self, candidates: Sequence[Candidate], act: ActBack | None, rng: np.random.Generator
    ) -> Trajectories:
        fixed = np.zeros(len(candidates))
        steps: list[tuple[int, int, int, int]] = []
        for row, candidate in enumerate(candidates):
            for name, count, index in self.path(candidate):
                slot = self._known(name, count)
                if slot is None:
                    fixed[row] -= math.log(count)
                else:
                    steps.append((row, slot, count, int(self._offsets[slot]) + index))
        table = np.array(steps, np.int64).reshape(-1, 4).T
        return self._trajectories(candidates, table, fixed)

    def path(self, candidate: Candidate) -> list[tuple[str, int, int]]:
        """The decisions that make a candidate: slot, number of parts, index of the part."""
        if candidate in self._paths:
            return self._paths[candidate]
        if len(self._paths) >= PATHS:
            self._paths.clear()
        taken: list[tuple[str, int, int]] = self._paths.setdefault(candidate, [])

        def pick(choice: Choice) -> object:
            value = candidate[choice.name]
            if type(choice) is Categorical:  # what `parts` gives too, sooner
                if len(choice.options) > 1:
                    taken.append((choice.name, len(choice.options), option_index(choice, value)))
            else:
                taken.extend(self.division.parts(choice, value))
            return value

        self.space.generate(cast(Callable[[Choice], str], pick))
        return taken

    def _walk(self, row: int, rng: np.random.Generator, fixed: NDArray[np.float64]) -> Walk:
        main, slot_of = getcurrent(), self._index.get
        switch = cast("Callable[[Decision], int]", main.switch)

        def decide(name: str, count: int) -> int:
            slot, most = slot_of(name, UNSEEN)
            if count <= most:
                return switch((slot, count))
            fixed[row] -= math.log(count)
            return int(rng.integers(count))

        def part(name: str, edges: Sequence[float]) -> int:
            return decide(name, len(edges) - 1)

        def pick(choice: Choice) -> Value:
            if type(choice) is Categorical:  # what `answer` does too, in half the time
                options = choice.options
                return options[decide(choice.name, len(options)) if len(options) > 1 else 0]
            return self.division.answer(choice, part, rng.random)

        walk = greenlet(lambda: self.space.generate(pick))
        return cast(Walk, walk.switch)  # pyright: ignore[reportUnknownMemberType]

    def _known(self, name: str, count: int) -> int | None:
        index, most = self._index.get(name, UNSEEN)
        return index if count <= most else None

    def _features(self, taken: Floats, slots: Integers) -> Floats:
        return np.concatenate([taken, self._pointers[slots]], axis=1)

    def _mask(self, slots: Integers, counts: Integers) -> Bools:
        if (counts == self._counts[slots]).all():
            return self._masks[slots]
        return self._masks[slots] & (np.arange(self.actions) < (self._offsets[slots] + counts)[:, None])

    def _trajectories(
        self, candidates: Sequence[Candidate], table: Integers, fixed: NDArray[np.float64]
    ) -> Trajectories:
        owner, slots, counts, actions = table
        rows = self._table[actions]
        before = np.cumsum(rows, axis=0, dtype=np.float64) - rows
        if len(owner):
            before -= before[np.searchsorted(owner, owner)]
        return Trajectories(
            candidates,
            owner,
            self._features(before.astype(np.float32), slots),
            self._mask(slots, counts),
            actions,
            None,
            fixed,
        )
