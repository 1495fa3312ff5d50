"""What does a trial cost beyond its own work?

Trials that cost nothing, two at a time, through Orchestrate with catalog and lineage, beside: bare Ray
Tune at its quickest; Tune logging to MLflow through its own callback; and an Optuna study in a database.
Every run is a process of its own; runs of the peers are interleaved, so that a busy machine hits all.
Start-up (imports, Ray, up to the end of the first trial) is measured apart. With RAY_ADDRESS all run on
that cluster, else each starts a Ray of two CPUs.

Then long jobs of recalled and of batched trials: what one costs, whether the cost grows with their number,
and how far the lineage lags behind (`_long.py`). `--only launched` or `--only long` runs one part.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import _long
from _compare import quartiles
from _record import Record, Run

HERE = Path(__file__).parent
CONCURRENCY = 2
TRIALS = {"smoke": 10, "default": 300, "full": 300}
GOAL = 1.5  # times bare Tune
GOAL_MLFLOW = 0.1  # times Tune's function API with its MLflow callback
GOAL_FIRST = 1.3  # times bare Tune, to the first trial's end
LINEAGE_TRIALS = {"smoke": 20, "default": 600, "full": 2000}
GOAL_DRAIN = 0.10  # of the job's time
MLFLOW = "Tune + MLflow, no reuse of actors"  # as Tune comes
SLOW = {MLFLOW: 30}  # a second a trial: fewer of them
DEADLINE_SECONDS = 900


@dataclass
class Clock:
    """When a run's trials ended, on this process's clock."""

    trials: int
    called_at: float = 0.0
    ends: list[float] = field(default_factory=list[float])
    finished_at: float | None = None

    def call(self) -> None:
        """The run begins here: what came before is import and Ray's start."""
        self.called_at = time.perf_counter()

    def tick(self, *_: Any, **__: Any) -> None:
        """A trial ended."""
        self.ends.append(time.perf_counter())

    def reading(self, before: float) -> Reading:
        """Sum the run up; it ends now, or where `finished_at` was set."""
        now = time.perf_counter()
        finished = self.finished_at or now
        assert len(self.ends) == self.trials, f"{len(self.ends)} trials ended, not {self.trials}"
        rest = self.trials - 1
        return Reading(
            start_seconds=self.called_at - before,
            first_seconds=self.ends[0] - self.called_at,
            steady=1000 * (self.ends[-1] - self.ends[0]) / rest,
            per_trial=1000 * (finished - self.ends[0]) / rest,
            after_seconds=now - finished,
        )


@dataclass(frozen=True)
class Reading:
    """One run. Milliseconds a trial, less the first: between trials' ends (`steady`), and up to the
    run's end (`per_trial`).
    """

    start_seconds: float
    """Of imports and Ray."""
    first_seconds: float
    """From the call to the first trial's end."""
    steady: float
    per_trial: float
    after_seconds: float
    """From the job's end until the call returned: the rest of the lineage."""


# The peers, each run in a process of its own ------------------------------------------------------


def orchestrate(clock: Clock, folder: Path, *, lineage: bool) -> None:
    import yaml

    from orchestrate.core import hookimpl, resolve
    from orchestrate.core.registry import Registry
    from orchestrate.scheduler.cluster import connect
    from orchestrate.scheduler.driver import submit
    from orchestrate.scheduler.settings import Settings
    from orchestrate.storage.catalog import Catalog

    class Listener:
        @hookimpl
        def trial_finished(self, event: Any) -> None:
            clock.tick()

        @hookimpl
        def job_finished(self, event: Any) -> None:
            clock.finished_at = time.perf_counter()

    data = {
        "name": "overhead",
        "space": {"name": "python:_trivial:Line"},
        "objectives": [{"metric": "loss", "direction": "minimize"}],
        "stages": [
            {
                "name": "search",
                "program": {"name": "python:_trivial:square"},
                "sampler": {"name": "random"},
                "trials": clock.trials,
                "concurrency": CONCURRENCY,
            }
        ],
    }
    settings = Settings(home=folder, catalog=None, tracking=None, cpus=CONCURRENCY, lineage=lineage)
    job = resolve(data, Registry.discover())
    job.registry.listen(Listener())
    connect(settings)
    clock.call()
    outcome = submit(job, yaml.safe_dump(data), settings)
    assert outcome.state == "finished", outcome
    with Catalog.open(settings.catalog_url) as catalog:
        while lineage and catalog.backlog(outcome.job_id):
            time.sleep(0.05)  # submit waits for the lineage, but not for ever


def tune(clock: Clock, folder: Path, *, mlflow: bool = False, reuse: bool = True) -> None:
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    class Square(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self._x = config["x"]

        def step(self) -> dict[str, Any]:
            return {"loss": self._x**2, "done": True}

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._x = new_config["x"]
            return True

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Nothing to save."""

        def load_checkpoint(self, checkpoint: Any) -> None:
            """Nothing to load."""

    def square(config: dict[str, Any]) -> None:
        tune.report({"loss": config["x"] ** 2})

    class Watch(tune.Callback):
        def on_trial_complete(self, *arguments: Any, **info: Any) -> None:
            clock.tick()

    callbacks: list[tune.Callback] = [Watch()]
    if mlflow:
        store = f"sqlite:///{folder / 'mlflow.db'}"
        callbacks.insert(0, MLflowLoggerCallback(tracking_uri=store, experiment_name="overhead"))
    local: dict[str, Any] = {
        "num_cpus": CONCURRENCY,
        "include_dashboard": False,
        "object_store_memory": 256 * 1024 * 1024,
    }
    joins = "RAY_ADDRESS" in os.environ
    ray.init(logging_level="ERROR", log_to_driver=False, **({} if joins else local))
    clock.call()
    tune.run(
        square if mlflow else Square,
        config={"x": tune.uniform(0, 1)},
        num_samples=clock.trials,
        max_concurrent_trials=CONCURRENCY,
        resources_per_trial={"cpu": 1},
        reuse_actors=reuse,
        storage_path=str(folder),
        callbacks=callbacks,
        verbose=0,
    )


def optuna(clock: Clock, folder: Path) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'optuna.db'}", sampler=optuna.samplers.RandomSampler(seed=0)
    )
    clock.call()
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1) ** 2, clock.trials, callbacks=[clock.tick])


OURS, BARE = "Orchestrate", "bare Tune"
PEERS: dict[str, Callable[[Clock, Path], None]] = {
    OURS: partial(orchestrate, lineage=True),
    "Orchestrate, lineage off": partial(orchestrate, lineage=False),
    BARE: tune,
    "Tune + MLflow": partial(tune, mlflow=True),
    "Optuna + SQLite": optuna,
    MLFLOW: partial(tune, mlflow=True, reuse=False),
}


def run_peer(name: str, trials: int) -> None:
    """Measure one run in this process; print it as JSON."""
    if name in _long.KINDS:
        with tempfile.TemporaryDirectory(prefix="orchestrate-benchmark-") as folder:
            print(json.dumps(asdict(_long.run(name, trials, Path(folder), CONCURRENCY))), flush=True)
        return
    before = time.perf_counter()
    clock = Clock(trials)
    with tempfile.TemporaryDirectory(prefix="orchestrate-benchmark-") as folder:
        PEERS[name](clock, Path(folder))
        print(json.dumps(asdict(clock.reading(before))), flush=True)


# The comparison -----------------------------------------------------------------------------------


def measure(name: str, trials: int) -> dict[str, Any]:
    """Run a peer in a fresh process; what it printed."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, __file__, "--peer", name, str(trials)],
        cwd=HERE,  # where Ray's workers find _trivial
        env={**environment, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,  # what went wrong is said below
    )
    if done.returncode != 0:
        raise RuntimeError(f"{name}: {done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def as_records(readings: Mapping[str, Sequence[Reading]], trials: int) -> list[Record]:
    """The ratio to bare Tune, what it is made of, and what comes before and after."""

    def record(
        claim: str, metric: str, values: Mapping[str, Sequence[float]], goal: float | None = None
    ) -> Record:
        ours = values[OURS]
        middle = statistics.median(ours)
        return Record(
            claim=claim,
            metric=metric,
            value=middle,
            spread=quartiles(ours),
            seeds=len(ours),
            peers={name: statistics.median(theirs) for name, theirs in values.items() if name != OURS},
            goal="" if goal is None else f"at most {goal:g}",
            holds=None if goal is None else middle <= goal,
            details={"runs": {name: [round(one, 4) for one in runs] for name, runs in values.items()}},
        )

    def each(read: Callable[[Reading], float]) -> dict[str, list[float]]:
        return {name: [read(run) for run in runs] for name, runs in readings.items()}

    per_trial = each(lambda run: run.per_trial)
    drained = each(lambda run: run.per_trial + 1000 * run.after_seconds / (trials - 1))
    bare = per_trial[BARE]
    return [
        record(
            "a trial costs little more than in bare Ray Tune",
            "times bare Tune, up to the job's end",
            {
                name: [one / other for one, other in zip(runs, bare, strict=True)]
                for name, runs in per_trial.items()
            },
            GOAL,
        ),
        record("wall time a trial, up to the job's end", "ms", per_trial),
        record("wall time a trial, up to the lineage's end", "ms", drained),
        record("time between the ends of trials", "ms", each(lambda run: run.steady)),
        record("from the call to the first trial's end", "s", each(lambda run: run.first_seconds)),
        record("before: imports, and Ray's start", "s", each(lambda run: run.start_seconds)),
        record("after the job's end: the rest of the lineage", "s", each(lambda run: run.after_seconds)),
    ]


def against_mlflow(readings: Mapping[str, Sequence[Reading]]) -> Record:
    """The ratio to Tune's function API with its own MLflow callback."""
    ratios = [
        one.per_trial / other.per_trial for one, other in zip(readings[OURS], readings[MLFLOW], strict=True)
    ]
    middle = statistics.median(ratios)
    return Record(
        claim="a trial costs a fraction of one in Tune with its MLflow callback",
        metric="times Tune's function API + MLflow",
        value=middle,
        spread=quartiles(ratios),
        seeds=len(ratios),
        goal=f"at most {GOAL_MLFLOW:g}",
        holds=middle <= GOAL_MLFLOW,
    )


def first_trial(readings: Mapping[str, Sequence[Reading]]) -> Record:
    """The ratio to bare Tune of the time from the call to the first trial's end."""
    ratios = [
        one.first_seconds / other.first_seconds
        for one, other in zip(readings[OURS], readings[BARE], strict=True)
    ]
    middle = statistics.median(ratios)
    return Record(
        claim="the first trial ends hardly later than in bare Tune",
        metric="times bare Tune, from the call",
        value=middle,
        spread=quartiles(ratios),
        seeds=len(ratios),
        goal=f"at most {GOAL_FIRST:g}",
        holds=middle <= GOAL_FIRST,
    )


def drained(readings: Sequence[Reading], trials: int) -> Record:
    """How long the lineage of many launched trials takes after the job's end."""
    shares = [
        run.after_seconds / (run.first_seconds + run.per_trial * (trials - 1) / 1000) for run in readings
    ]
    middle = statistics.median(shares)
    return Record(
        claim=f"after {trials:,} launched trials MLflow lacks little",
        metric="of the job's time, until it has everything",
        value=middle,
        spread=quartiles(shares),
        seeds=len(shares),
        goal=f"at most {GOAL_DRAIN:g}",
        holds=middle <= GOAL_DRAIN,
    )


def launched(run: Run) -> list[Record]:
    """Short jobs beside the peers, and a longer one for the lineage."""
    names = [OURS, BARE, "Optuna + SQLite"] if run.size == "smoke" else list(PEERS)
    trials = TRIALS[run.size]
    readings: dict[str, list[Reading]] = {name: [] for name in names}
    for repeat in range(run.seeds):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            reading = Reading(**measure(name, min(trials, SLOW.get(name, trials))))
            readings[name].append(reading)
            print(f"{repeat + 1}/{run.seeds} {name}: {reading.per_trial:.1f} ms a trial", flush=True)
    records = [*as_records(readings, trials), first_trial(readings)]
    if MLFLOW in readings:
        records.insert(1, against_mlflow(readings))
    many = LINEAGE_TRIALS[run.size]
    return [*records, drained([Reading(**measure(OURS, many)) for _ in range(max(1, run.seeds // 7))], many)]


def long(run: Run) -> list[Record]:
    """Jobs of many cheap trials."""
    readings: dict[str, list[_long.Long]] = {kind: [] for kind in _long.KINDS}
    for repeat in range((run.seeds + 1) // 2):
        for kind, readings_of in readings.items():
            reading = _long.Long(**measure(kind, _long.TRIALS[kind][run.size]))
            readings_of.append(reading)
            print(f"{repeat + 1}: {kind}: {reading.mean:.2f} ms a trial", flush=True)
    return _long.as_records(readings)


PARTS = {"launched": launched, "long": long}


def main() -> None:
    if sys.argv[1:2] == ["--peer"]:
        run_peer(sys.argv[2], int(sys.argv[3]))
        return
    run = Run.from_command_line(__file__, __doc__, {"smoke": 1, "default": 5, "full": 21}, list(PARTS))
    run.publish([record for part in run.only or PARTS for record in PARTS[part](run)])


if __name__ == "__main__":
    main()
