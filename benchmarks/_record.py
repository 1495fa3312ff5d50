"""What every benchmark shares: its arguments, its records, and how they are shown and written.

A record is one claim with the number that supports or refutes it, and the peers' numbers from the
same run. `report.py` turns the written records into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

Size = Literal["smoke", "default", "full"]
Mapper = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""Applies a function to each item."""

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("orchestrate-automl", "ray", "optuna", "mlflow", "sqlalchemy", "numpy", "moocore", "torch")


@dataclass(frozen=True)
class Record:
    """One claim, measured.

    `holds` is None where there is no goal: a number that is only shown. `spread` is the interquartile
    range of `value` over `seeds` repetitions. `peers` were measured in the same run, in the same unit.
    """

    claim: str
    metric: str
    value: float
    spread: tuple[float, float]
    seeds: int
    peers: Mapping[str, float] = field(default_factory=dict[str, float])
    goal: str = ""
    holds: bool | None = None
    note: str = ""
    """What else was found, in few words: an interval, a p-value."""
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Whatever a reader may want to check: the single measurements."""


@dataclass(frozen=True)
class Run:
    """One run of a benchmark script, as its command line asked for it."""

    name: str
    size: Size
    seeds: int
    json: Path | None
    only: tuple[str, ...]
    """Parts named on the command line; empty where none are: what its size says."""
    started_at: float
    keep: Path | None = None
    """Where a long run keeps each repetition's result, to go on from if it is interrupted."""
    earlier: list[float] = field(default_factory=list[float])
    """Processor seconds of results that were kept."""

    @classmethod
    def from_command_line(
        cls, file: str, description: str | None, seeds: Mapping[Size, int], parts: Sequence[str] = ()
    ) -> Run:
        """Parse the arguments that all benchmarks take.

        `seeds` says how many repetitions each size has; `parts` what `--only` may name.
        """
        parser = argparse.ArgumentParser(
            prog=Path(file).name,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        size = parser.add_mutually_exclusive_group()
        size.add_argument("--full", action="store_true", help="all settings and seeds; may take hours")
        size.add_argument("--smoke", action="store_true", help="seconds; whether it runs, not what it finds")
        parser.add_argument("--seeds", type=_positive, metavar="N", help="repetitions")
        parser.add_argument(
            "--json",
            type=Path,
            metavar="PATH",
            help="where to write the records (by default benchmarks/results/; with --smoke nowhere)",
        )
        if parts:
            parser.add_argument("--only", nargs="+", choices=parts, metavar="PART", help=", ".join(parts))
        parser.add_argument(
            "--keep", type=Path, metavar="FOLDER", help="go on from an interrupted run's results there"
        )
        given = parser.parse_args()
        chosen: Size = "full" if given.full else "smoke" if given.smoke else "default"
        name = Path(file).stem
        path = given.json or (None if chosen == "smoke" else RESULTS / f"{name}.json")
        only = tuple(getattr(given, "only", None) or ())
        return cls(name, chosen, given.seeds or seeds[chosen], path, only, time.time(), given.keep)

    def publish(self, records: Sequence[Record]) -> None:
        """Show the records and write them."""
        self.show(records)
        self.write(records)

    def show(self, records: Sequence[Record]) -> None:
        """Print the records as a table."""
        Console(width=None if sys.stdout.isatty() else 150).print(as_table(self.name, records))

    def write(self, records: Sequence[Record]) -> None:
        """Write the records as JSON, with command, versions and duration."""
        if self.json is None:
            return
        common = {
            "command": self._command(),
            "versions": versions(),
            "seconds": round(time.time() - self.started_at + sum(self.earlier), 1),
        }
        data = self._with_others([{**asdict(record), **common} for record in records])
        self.json.parent.mkdir(parents=True, exist_ok=True)
        self.json.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    def _with_others(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """With `--only`, what was written of other claims stays."""
        if not (self.only and self.json and self.json.exists()):
            return data
        old = json.loads(self.json.read_text(encoding="utf-8"))
        new = {entry["claim"] for entry in data}
        place = next((index for index, entry in enumerate(old) if entry["claim"] in new), len(old))
        others = [entry for entry in old if entry["claim"] not in new]
        return [*others[:place], *data, *others[place:]]

    def _command(self) -> str:
        """The command to run it again, without where this run wrote to."""
        given = iter(sys.argv[1:])
        kept: list[str] = []
        for argument in given:
            if argument in ("--json", "--keep"):
                next(given, None)
            elif not argument.startswith(("--json=", "--keep=")):
                kept.append(argument)
        return shlex.join(["python", f"benchmarks/{self.name}.py", *kept])


@contextmanager
def each_core(run: Run) -> Generator[Mapper]:
    """Give a `map` whose calls run in processes, one a core, each on one thread.

    Where the run keeps results, a call's is written to its folder (JSON), and not computed again.
    """
    for threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[threads] = "1"
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn")) as pool:

        def spread(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
            for found, seconds in pool.map(Kept(function, run.keep), items):
                run.earlier.append(seconds)
                yield found

        yield spread


@dataclass(frozen=True)
class Kept:
    """A function whose results are kept in a folder, by its name and argument, where there is a folder.

    Gives a result, and the processor seconds that it took if it was there already.
    """

    function: Callable[[Any], Any]
    folder: Path | None

    def __call__(self, item: Any) -> tuple[Any, float]:
        if self.folder is None:
            return self.function(item), 0.0
        name = f"{self.function.__name__} {item}".encode()
        path = self.folder / f"{hashlib.sha256(name).hexdigest()[:16]}.json"
        if path.is_file():
            found, seconds = json.loads(path.read_text(encoding="utf-8"))
            return found, seconds
        begun = time.process_time()
        found = self.function(item)
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps([found, round(time.process_time() - begun, 3)])
        path.with_suffix(".part").write_text(text, encoding="utf-8")
        path.with_suffix(".part").replace(path)
        return found, 0.0


HEADINGS = ("claim", "metric", "value", "quartiles", "n")


def rows(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """Lay records out, each peer in a column of its own: headings, and a row a record."""
    peers = list(dict.fromkeys(name for record in records for name in record.peers))
    return [*HEADINGS, *peers, "goal", "found"], [
        [
            record.claim,
            record.metric,
            number(record.value),
            " to ".join(map(number, record.spread)),
            str(record.seeds),
            *(number(record.peers[name]) if name in record.peers else "" for name in peers),
            record.goal,
            "; ".join(filter(None, (verdict(record.holds), record.note))),
        ]
        for record in records
    ]


def as_table(title: str, records: Sequence[Record]) -> Table:
    """Make the table for the terminal."""
    headings, lines = rows(records)
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading)
    for line in lines:
        table.add_row(*line)
    return table


def number(value: float) -> str:
    """Write a number to three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def verdict(holds: bool | None) -> str:
    """Say in a word whether a claim holds."""
    return {True: "holds", False: "does not hold", None: ""}[holds]


def versions() -> dict[str, str]:
    """Packages, Python and machine that the numbers depend on."""
    found = {"python": platform.python_version(), "machine": machine()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """Processor and number of cores that this process may use."""
    cores = len(os.sched_getaffinity(0))
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{cores} core{'s' if cores > 1 else ''} of {model or platform.machine()}"


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value
