"""Profiles: how long each worker took in each round, measured or made up."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ....core.errors import DataError
from ..codes.base import Floats

COLUMNS = ("round", "worker", "load", "seconds")


@dataclass(frozen=True)
class Profile:
    """Reply times `seconds` (rounds, n), in seconds, of workers that computed `loads` of a job.

    `loads` is (rounds, n) too. A reply takes `slope` seconds more for each unit of load, so that the
    profile also tells the times at other loads.

    `costs` are those of the models that train by turns: what a unit of load takes of each, relative to
    their mean, which is what `slope` and `loads` count in.
    """

    seconds: Floats
    loads: Floats
    slope: float
    source: str = field(default="", compare=False)
    costs: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if self.seconds.ndim != 2 or self.seconds.shape != self.loads.shape:
            raise ValueError(
                f"times and loads must both be (rounds, workers), not {self.seconds.shape} and "
                f"{self.loads.shape}"
            )

    @property
    def rounds(self) -> int:
        """Number of rounds."""
        return self.seconds.shape[0]

    @property
    def n(self) -> int:
        """Number of workers."""
        return self.seconds.shape[1]

    def at(self, index: int, loads: Floats) -> Floats:
        """Reply times (n,) in round `index`, from 0, had the loads been these (n,)."""
        return np.maximum(self.seconds[index] + (loads - self.loads[index]) * self.slope, 0.0)

    def part(self, start: int, stop: int) -> Profile:
        """The rounds from `start` to before `stop`."""
        return replace(self, seconds=self.seconds[start:stop], loads=self.loads[start:stop])

    def weigh(self, shares: Mapping[int, Floats]) -> Floats:
        """Loads (n,) of workers that compute these shares of jobs; job t is of model (t - 1) mod M."""
        each = [self.costs[(job - 1) % len(self.costs)] * share for job, share in shares.items()]
        return sum(each, np.zeros(self.n))

    def write(self, path: Path) -> None:
        """Write CSV: a line a worker and round."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for (index, worker), seconds in np.ndenumerate(self.seconds):
                load = float(self.loads[index, worker])
                writer.writerow((index + 1, worker, repr(load), repr(float(seconds))))


def read(path: Path, slope: float | None = None) -> Profile:
    """Read a profile from CSV: columns round, worker, load, seconds; each worker in each round.

    Without a `slope` it is fitted, for which the workers must have had different loads.

    Raises:
        DataError: the file can't be read, is no such table, lacks a worker in some round, has a time
            that is no positive number, or gives no slope.
    """
    cells: dict[tuple[int, int], tuple[float, float]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (table.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{path}: no column {', '.join(missing)}. A profile is CSV with the columns "
                    f"{', '.join(COLUMNS)}: a line a worker and round."
                )
            for row in table:
                key, value = _cell(row, f"{path}, line {table.line_num}")
                if key in cells:
                    raise DataError(
                        f"{path}, line {table.line_num}: round {key[0]}, worker {key[1]} stands there twice"
                    )
                cells[key] = value
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: can't be read: {error}") from error
    rounds, workers = (sorted({key[axis] for key in cells}) for axis in (0, 1))
    if len(cells) < max(1, len(rounds) * len(workers)):
        lost = next(((r, w) for r in rounds for w in workers if (r, w) not in cells), None)
        where = f"round {lost[0]} has no worker {lost[1]}" if lost else "there are no rounds"
        raise DataError(f"{path}: {where}. Each round needs a time of each worker.")
    both = np.array([[cells[r, w] for w in workers] for r in rounds])
    loads, seconds = both[..., 0], both[..., 1]
    if slope is None:
        slope = fit_slope(loads, seconds)
        if slope is None:
            raise DataError(
                f"{path}: every worker had the same load in every round, which doesn't tell how much longer "
                "a larger one takes. Give the slope, in seconds for the load of a whole job."
            )
    return Profile(seconds, loads, slope, str(path))


def fit_slope(loads: Floats, seconds: Floats) -> float | None:
    """Seconds that a reply takes longer for each unit of load; None if all loads are equal."""
    found = fit_slopes(loads.reshape(-1, 1), seconds.reshape(-1))
    return None if found is None else float(found[0])


def fit_slopes(loads: Floats, seconds: Floats) -> Floats | None:
    """Seconds that a reply takes longer for each unit of load of each model, (models,).

    The least-squares plane through the lower quartile of the times at each combination of loads, which
    keeps stragglers out also where a code doesn't wait for half of the replies. Not below 0. Loads at which
    more than two thirds of the times are infinite, not waited for, tell nothing.

    Args:
        loads: (replies, models).
        seconds: (replies,).

    Returns:
        None if the loads don't vary enough to tell.
    """
    levels, which = np.unique(loads, axis=0, return_inverse=True)
    which = which.reshape(-1)
    groups = [seconds[which == index] for index in range(len(levels))]
    times = np.array([np.quantile(times, 0.25, method="lower") for times in groups])
    known = np.array([np.isfinite(times).mean() > 1 / 3 for times in groups])
    weights = np.sqrt(np.bincount(which, minlength=len(levels))[known])[:, None]
    design = np.column_stack([np.ones(int(known.sum())), levels[known]]) * weights
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    solved = np.linalg.lstsq(design, times[known] * weights[:, 0])[0]
    return np.maximum(solved[1:], 0.0)


def _cell(row: Mapping[str, str], where: str) -> tuple[tuple[int, int], tuple[float, float]]:
    try:
        key = int(row["round"]), int(row["worker"])
        load, seconds = float(row["load"]), float(row["seconds"])
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: {error}") from error
    if not (np.isfinite(seconds) and seconds >= 0 and np.isfinite(load) and load >= 0):
        raise DataError(f"{where}: load and seconds must be finite and not negative, not {load}, {seconds}")
    return key, (load, seconds)
