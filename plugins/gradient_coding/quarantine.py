"""Workers that are slow all the time, which no code is for: found by their scores, and replaced.

A straggler is slow by chance, and a code bears it. One that is always slow wears the code's redundancy
out: it gets a fresh process, and, where that is slow too, a place apart from others of its kind.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from .stragglers.statistics import scores

USUAL = 0.8  # share of a worker's tasks in which it must be too slow: one in five may be faster
LEAST = 1.0  # seconds by which it must be slower: a fresh process takes some to start
HISTORY = 8  # how many times more tasks than are judged a worker's best is looked for in


@dataclass(frozen=True)
class Finding:
    """A chronic straggler: its speed relative to the fastest worker's, and to its own best."""

    worker: int
    relative: float
    individual: float
    before: int
    """Processes that were replaced in its place for the same reason."""

    def __str__(self) -> str:
        was = "was faster once" if self.individual < 0.5 else "has never been faster"
        again = f", in {self.before + 1} processes" if self.before else ""
        speed = f"{self.relative:.0%} of the fastest's speed"
        return f"worker {self.worker} is slow all the time ({speed}{again}; {was})"


class Quarantine:
    """Keeps the times of n workers' tasks and names those that are chronic stragglers.

    Tasks are counted, not rounds: one that hangs for many rounds is one slow task. After a replacement
    a worker is judged again after twice as many tasks as the time before.

    Args:
        n: workers.
        score: speed relative to the fastest below which a worker is slow; 0 finds nobody.
        tasks: tasks of each worker that are judged.
    """

    def __init__(self, n: int, score: float, tasks: int) -> None:
        self._score = score
        self._tasks = tasks
        self._times: list[deque[float]] = [deque(maxlen=HISTORY * tasks) for _ in range(n)]
        self._due = [tasks] * n  # tasks before a worker is judged
        self._replaced = [0] * n

    @property
    def chronic(self) -> list[int]:
        """Workers that were replaced before: they get places apart."""
        return [worker for worker, count in enumerate(self._replaced) if count]

    def record(self, worker: int, seconds: float) -> Finding | None:
        """Note how long a worker's task took; tells if it is to be replaced now."""
        if not self._score:
            return None
        self._times[worker].append(max(seconds, 1e-9))
        self._due[worker] -= 1
        fastest = min(times[-1] for times in self._times if times)
        if self._due[worker] > 0 or fastest >= self._score * seconds:
            return None  # as nearly always, and at no cost
        known = min(map(len, self._times))
        if known < self._tasks:
            return None
        taken = np.array([list(times)[-known:] for times in self._times]).T
        found = scores(taken, self._tasks, USUAL)
        recent = np.quantile(taken[-self._tasks :], 1 - USUAL, axis=0)
        if found.relative[worker] >= self._score or recent[worker] < np.median(recent) + LEAST:
            return None
        count = self._replaced[worker]
        self._replaced[worker] = count + 1
        self._due[worker] = self._tasks * 2 ** (count + 1)
        return Finding(worker, float(found.relative[worker]), float(found.individual[worker]), count)
