"""Jobs of many cheap trials: does the ten-thousandth cost what the hundredth did?

Candidates that are recalled, candidates of a program that scores a hundred at once, and a mixed job, of
which one trial in eleven is launched and the others are recalled. The time of a trial is the time between
the ends of trials, in the driver, less the sampler's own time.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _compare import quartiles
from _record import Record

TRIALS = {
    "recalled": {"smoke": 60, "default": 20_000, "full": 20_000},
    "batched": {"smoke": 100, "default": 20_000, "full": 20_000},
    "mixed": {"smoke": 60, "default": 22_000, "full": 22_000},
}
WINDOW = 200  # trials whose mean is a point of the curve
GOAL_MS, GOAL_GROWTH, GOAL_DRAIN, GOAL_MEMORY = 5.0, 1.2, 0.10, 1.5
RECALL = {"recall": {"name": "exact", "max_hits": None}, "concurrency": 2}
KINDS: dict[str, dict[str, Any]] = {
    "recalled": {"space": "Hundred", "program": "square", "stage": RECALL},
    "mixed": {"space": "Thousands", "program": "square", "stage": RECALL},
    "batched": {"space": "Line", "program": "Squares", "stage": {"concurrency": 2}},
}


@dataclass(frozen=True)
class Long:
    """One job. Milliseconds a trial, the sampler's time taken out: on the whole, early, and at the end."""

    trials: int
    launched: int
    mean: float
    early: float
    late: float
    propose: float
    early_mib: float
    late_mib: float
    job_seconds: float
    drain_seconds: float
    """From the job's end until MLflow has everything."""


def run(kind: str, trials: int, folder: Path, concurrency: int) -> Long:
    """Run a job in this process, with catalog and lineage."""
    import yaml

    from orchestrate.core import hookimpl, resolve
    from orchestrate.core.registry import Registry
    from orchestrate.scheduler.cluster import connect
    from orchestrate.scheduler.driver import submit
    from orchestrate.scheduler.settings import Settings
    from orchestrate.storage.catalog import Catalog

    ends: list[float] = []
    memory: list[float] = []
    finished: list[float] = []

    class Listener:
        @hookimpl
        def trial_finished(self, event: Any) -> None:
            ends.append(time.perf_counter())
            if len(ends) % WINDOW == 0:
                memory.append(_resident())

        @hookimpl
        def job_finished(self, event: Any) -> None:
            finished.append(time.perf_counter())

    parts = KINDS[kind]
    data = {
        "name": f"long-{kind}",
        "space": {"name": f"python:_trivial:{parts['space']}"},
        "objectives": [{"metric": "loss", "direction": "minimize"}],
        "stages": [
            {
                "name": "search",
                "program": {"name": f"python:_trivial:{parts['program']}"},
                "sampler": {"name": "random"},
                "trials": trials,
                **parts["stage"],
            }
        ],
    }
    settings = Settings(home=folder, catalog=None, tracking=None, cpus=concurrency)
    job = resolve(data, Registry.discover())
    job.registry.listen(Listener())
    connect(settings)
    begun = time.perf_counter()
    outcome = submit(job, yaml.safe_dump(data), settings)
    assert outcome.state == "finished", outcome
    assert len(ends) == trials, f"{len(ends)} trials ended, not {trials}"
    with Catalog.open(settings.catalog_url) as catalog:
        while catalog.backlog(outcome.job_id):
            time.sleep(0.05)
        drained = time.perf_counter()
        rows = catalog.trials(outcome.job_id)
    proposed = [1000 * row.timings.get("propose", 0.0) for row in rows]

    def cost(first: int, last: int) -> float:
        wall = 1000 * (ends[last - 1] - ends[first - 1]) / (last - first)
        return wall - statistics.fmean(proposed[first:last])

    first = min(WINDOW, trials // 3)  # what starts Ray's workers lies before
    return Long(
        trials=trials,
        launched=sum(row.attempts > 0 for row in rows),
        mean=cost(first, trials),
        early=cost(first, 2 * first),
        late=cost(trials - first, trials),
        propose=statistics.fmean(proposed[first:]),
        early_mib=memory[0] if memory else _resident(),
        late_mib=memory[-1] if memory else _resident(),
        job_seconds=finished[0] - begun,
        drain_seconds=drained - finished[0],
    )


def _resident() -> float:
    """This process's memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def as_records(readings: Mapping[str, Sequence[Long]]) -> list[Record]:
    """For each kind: the cost, its growth, the driver's memory, and what was left of the lineage."""
    records: list[Record] = []
    for kind, runs in readings.items():
        trials = runs[0].trials
        about = {
            "trials": trials,
            "launched": runs[0].launched,
            "propose, ms": round(statistics.median(run.propose for run in runs), 3),
        }

        def record(
            claim: str, metric: str, values: Sequence[float], goal: float, about: dict[str, Any] = about
        ) -> Record:
            middle = statistics.median(values)
            return Record(
                claim=claim,
                metric=metric,
                value=middle,
                spread=quartiles(values),
                seeds=len(values),
                goal=f"at most {goal:g}",
                holds=middle <= goal,
                details=about,
            )

        drained = record(
            f"{kind}: after the job's end MLflow lacks little",
            "of the job's time",
            [run.drain_seconds / run.job_seconds for run in runs],
            GOAL_DRAIN,
        )
        if kind == "mixed":  # a mean over both sorts says nothing
            records.append(drained)
            continue
        records += [
            record(f"a {kind} trial costs milliseconds", "ms", [run.mean for run in runs], GOAL_MS),
            record(
                f"{kind}: trial {trials:,} costs what trial {min(WINDOW, trials // 3)} did",
                "times",
                [run.late / run.early for run in runs],
                GOAL_GROWTH,
            ),
            record(
                f"{kind}: the driver's memory after {trials:,} trials",
                f"times that after {WINDOW}",
                [run.late_mib / run.early_mib for run in runs],
                GOAL_MEMORY,
            ),
            drained,
        ]
    return records
