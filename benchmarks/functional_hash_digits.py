"""What does recall save a search whose trainings are real, and what does it cost?

Regularised evolution over NAS-Bench-201's cells, as small networks that are trained on digits. The
scheduler's own stage runs each search, with catalog, fingerprint and recall as in a job; only Ray is
left out, and trials run one after the other in this process. Arms: without recall (`none`); equal candidates
(`exact`), equal structures (`structural`), equal functions (`functional`), and the last with three
trainings a class. Peers, in the same loop: Optuna's recipe for duplicates (the value of the last equal
trial) and PyGlove's deduplication (an equal candidate is drawn again).

Times are of the processor, hashing in this process, since others use the machine, too.

All arms stop at the same number of trainings. The best candidate of each search, by what the search
was told, is trained again with three other seeds; their mean validation accuracy counts. Trainings of
the same candidate with the same seed are made once and shared by all arms, at the time they took.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from _compare import paired, quartiles
from _peers import Redrawn
from _record import Record, Run
from rich.progress import track

from orchestrate.core import Candidate, Key, Print, SearchSpace, Task, digest, resolve
from orchestrate.core.registry import Registry
from orchestrate.core.seeds import spawn
from orchestrate.core.testing.trial import LocalTrial
from orchestrate.plugins.functional_hash.fingerprint import FunctionalHash
from orchestrate.scheduler.examine import Examiner
from orchestrate.scheduler.recalling import familiarity, namespace, recall_policy
from orchestrate.scheduler.stage import StageRun
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.ledger import JobDraft
from orchestrate.storage.recall import Statistics, statistics

WIDTH, DEPTH, EPOCHS, BATCH = 8, 1, 2, 64
POPULATION, TOURNAMENT = 8, 4
CONFIRMATIONS = 3
TIERS = ("exact", "structural", "functional")
REGISTRY = Registry.discover()


@dataclass(frozen=True)
class Arm:
    """The stage's recall, or whose way with duplicates is followed instead."""

    recall: Mapping[str, Any] | None = None
    peer: str = ""


ARMS: Mapping[str, Arm] = {
    "none": Arm(),
    "exact": Arm({"name": "exact"}),
    "structural": Arm({"name": "functional-hash", "tiers": list(TIERS[:2])}),
    "functional": Arm({"name": "functional-hash"}),
    "functional, M=3": Arm({"name": "functional-hash", "evaluations": 3}),
    "Optuna's recipe": Arm(peer="optuna"),
    "PyGlove's": Arm(peer="pyglove"),
}
FULL = ("functional, M=3",)
"""Arms of --full alone: they train all that they save."""


class Metered(FunctionalHash):
    """The fingerprint, with its processor time counted."""

    spent = 0.0

    def compute(self, candidate: Candidate, space: SearchSpace, task: Task) -> Print:
        begun = time.thread_time()
        made = super().compute(candidate, space, task)
        self.spent += time.thread_time() - begun
        return made

    def at_sight(self, candidate: Candidate, space: SearchSpace) -> tuple[Key, ...]:
        begun = time.thread_time()
        keys = super().at_sight(candidate, space)
        self.spent += time.thread_time() - begun
        return keys


@dataclass(frozen=True)
class Trained:
    """A training: validation accuracy, and the seconds it took."""

    accuracy: float
    seconds: float


class Trainings:
    """Trains candidates; each of a candidate with a seed once.

    They are noted in a file as they are made, so that a run that was interrupted goes on from there.
    """

    def __init__(self, notes: Path | None = None) -> None:
        self._notes = notes
        self._known: dict[str, Trained] = {}
        if notes is not None and notes.exists():
            for line in notes.read_text(encoding="utf-8").splitlines():
                name, *values = json.loads(line)
                self._known[name] = Trained(*values)

    def __call__(self, job: Any, candidate: Candidate, seed: int) -> Trained:
        stage = job.stages[0]
        options = [stage.space.options.model_dump(mode="json"), stage.program.options.model_dump(mode="json")]
        name = digest([*options, candidate.digest, seed])
        if name not in self._known:
            with tempfile.TemporaryDirectory() as folder:
                trial = LocalTrial(candidate, stage.space, job.task, Path(folder), seed=seed)
                begun = time.thread_time()
                torch.manual_seed(seed)
                metrics = stage.program.run(trial).metrics
                done = Trained(metrics["accuracy"], time.thread_time() - begun)
            self._known[name] = done
            if self._notes is not None:
                with self._notes.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([name, done.accuracy, done.seconds]) + "\n")
        return self._known[name]


@dataclass(frozen=True)
class Found:
    """What one search came to."""

    best: float
    """Highest accuracy that it was told of."""
    confirmed: float
    """Mean accuracy of that candidate, trained with other seeds."""
    proposals: int
    trained_seconds: float
    hits: Mapping[str, int]
    saved_seconds: float
    hash_seconds: float


def job_data(arm: Arm, seed: int, trainings: int) -> dict[str, Any]:
    """The job as its file would give it."""
    stage: dict[str, Any] = {
        "name": "search",
        "program": {"name": "train", "epochs": EPOCHS, "batch_size": BATCH},
        "sampler": {"name": "evolution", "population": POPULATION, "tournament": TOURNAMENT},
        "trials": 20 * trainings,
    }
    if arm.recall is not None:
        inside = {} if arm.recall["name"] == "exact" else {"isolate": False}
        stage["recall"] = {"window": None, **inside, **arm.recall}
    return {
        "name": "digits",
        "task": {"name": "digits"},
        "space": {"name": "nasbench201", "width": WIDTH, "depth": DEPTH},
        "objectives": [{"metric": "accuracy", "direction": "maximize"}],
        "stages": [stage],
        "seed": seed,
    }


class Search:
    """One search: the scheduler's stage, with trainings in this process."""

    def __init__(self, arm: Arm, seed: int, budget: int, trainings: Trainings) -> None:
        self.arm, self.budget, self.trainings = arm, budget, trainings
        data = job_data(arm, seed, budget)
        self.job = resolve(data, REGISTRY)
        stage = self.job.stages[0]
        self.hashing = None
        if isinstance(stage.fingerprint, FunctionalHash):
            self.hashing = Metered(stage.fingerprint.options)
            stage = replace(stage, fingerprint=self.hashing)
        self.stage = stage
        self.data = data
        self.trained: list[Trained] = []
        self.answered: dict[str, Trained] = {}
        self.hits = 0
        self.saved = 0.0

    def run(self) -> Found:
        with tempfile.TemporaryDirectory() as folder, opened(folder) as catalog:
            run, stage_id = self._start(catalog)
            while len(self.trained) < self.budget and not run.exhausted():
                asked = run.ask()
                if asked is not None:
                    number, orders = asked
                    run.started(number)
                    run.ended(number, [self._conclude(order) for order in orders])
            rows = [row for row in catalog.trials(stage_id=stage_id) if "accuracy" in row.values]
            winner = max(rows, key=lambda row: (row.values["accuracy"], -row.number))
            counts = statistics(catalog.engine, stage_id) if self.arm.recall is not None else None
            return self._found(Candidate(winner.candidate), winner.values["accuracy"], len(rows), counts)

    def _start(self, catalog: Catalog) -> tuple[StageRun, int]:
        ledger = catalog.create_job(JobDraft("digits", self.data, "", 0, {}, ("search",)), "benchmark", 3600)
        ledger.start_job()
        stage_id = catalog.stages(ledger.job_id)[0].id
        policy = None
        if self.stage.fingerprint is not None:
            fields = namespace(self.stage, self.job)
            policy = recall_policy(self.stage, fields)
            ledger.open_memory(policy, fields)
        ledger.start_stage(stage_id, policy.context if policy else "")
        assert self.stage.sampler is not None
        evolution = Redrawn if self.arm.peer == "pyglove" else type(self.stage.sampler)
        sampler = evolution(self.stage.sampler.options)
        examiner = Examiner(self.stage, self.job, familiar=familiarity(catalog, policy, ledger.job_id))
        sampler.start(replace(self.stage.problem, key=examiner.key if policy else None))
        run = StageRun(
            *(self.stage, self.job, stage_id, ledger, sampler, policy),
            *(ThreadPoolExecutor(1), lambda *_, **__: None, lambda _: {}),
            examiner=examiner,
        )
        run.restore()
        return run, stage_id

    def _conclude(self, order: Mapping[str, Any]) -> dict[str, Any]:
        candidate = Candidate(order["candidate"])
        done = self.answered.get(candidate.digest) if self.arm.peer == "optuna" else None
        if done is not None:
            self.hits += 1
            self.saved += done.seconds
        else:
            done = self.trainings(self.job, candidate, order["seed"])
            self.trained.append(done)
            self.answered[candidate.digest] = done
        metrics = {"accuracy": done.accuracy}
        told = {"metrics": metrics, "values": metrics, "artifacts": [], "seconds": done.seconds}
        return {"trial_id": order["trial_id"], "state": "finished", **told}

    def _found(self, winner: Candidate, best: float, proposals: int, counts: Statistics | None) -> Found:
        seeds = [spawn(self.job.spec.seed, 2, index) for index in range(CONFIRMATIONS)]
        confirmed = fmean(self.trainings(self.job, winner, seed).accuracy for seed in seeds)
        return Found(
            best=100 * best,
            confirmed=100 * confirmed,
            proposals=proposals,
            trained_seconds=sum(one.seconds for one in self.trained),
            hits=counts.by_tier if counts else {"exact": self.hits},
            saved_seconds=sum(counts.saved_seconds.values()) if counts else self.saved,
            hash_seconds=self.hashing.spent if self.hashing else 0.0,
        )


@contextmanager
def opened(folder: str) -> Iterator[Catalog]:
    """A catalog of its own for one search."""
    catalog = Catalog.open(str(Path(folder, "catalog.db")))
    try:
        yield catalog
    finally:
        catalog.close()


def main() -> None:
    torch.set_num_threads(1)
    run = Run.from_command_line(__file__, __doc__, {"smoke": 1, "default": 10, "full": 30})
    budget = {"smoke": 3, "default": 25, "full": 100}[run.size]
    notes = run.json.with_suffix(".partial") if run.json else None
    trainings = Trainings(notes)
    warm_up()
    arms = {name: arm for name, arm in ARMS.items() if run.size != "default" or name not in FULL}
    found: dict[str, list[Found]] = {name: [] for name in arms}
    for seed in track(range(run.seeds), "searches, by seed"):
        for name, arm in arms.items():
            found[name].append(Search(arm, seed, budget, trainings).run())
    run.publish(told(found, budget))
    if notes is not None:
        notes.unlink(missing_ok=True)


def warm_up() -> None:
    """Train and hash once: the first of each in a process takes seconds longer."""
    search = Search(ARMS["functional"], 0, 1, Trainings())
    candidate = Candidate({f"edge_{a}_{b}": "nor_conv_3x3" for b in (1, 2, 3) for a in range(b)})
    search.trainings(search.job, candidate, 0)
    assert search.hashing is not None
    search.hashing.compute(candidate, search.stage.space, search.job.task)


# Records ------------------------------------------------------------------------------------------


def told(found: Mapping[str, Sequence[Found]], budget: int) -> list[Record]:
    """What the searches of each arm came to."""
    records = [reached(name, found, budget) for name in found]
    records += [saved(name, ones) for name, ones in found.items() if any(one.saved_seconds for one in ones)]
    return [*records, cost(found["functional"])]


def reached(name: str, found: Mapping[str, Sequence[Found]], budget: int) -> Record:
    """The quality at equal trainings, and who answered how much."""
    ours = [one.confirmed for one in found[name]]
    others = {other: [one.confirmed for one in found[other]] for other in ("none", "exact") if other != name}
    rates = {tier: fmean(one.hits.get(tier, 0) / one.proposals for one in found[name]) for tier in TIERS}
    hits = ", ".join(f"{tier} {rate:.1%}" for tier, rate in rates.items() if rate) or "none"
    told = fmean(one.best for one in found[name])
    proposals = fmean(one.proposals for one in found[name])
    differences = "".join(f"; {paired(ours, values)} to {other}" for other, values in others.items())
    return Record(
        claim=f"digits, {name}: the best cell after {budget} trainings",
        metric="validation accuracy, %",
        value=fmean(ours),
        spread=quartiles(ours),
        seeds=len(ours),
        peers={other: fmean(values) for other, values in others.items()},
        note=f"hits: {hits}, of {proposals:.0f} proposals; the search was told {told:.2f}{differences}",
        details={"hit_rate_by_tier": rates, "searches": [vars(one) for one in found[name]]},
    )


def saved(name: str, found: Sequence[Found]) -> Record:
    """The time that answers saved, less hashing, of what training every proposal would have taken."""
    shares = [
        (one.saved_seconds - one.hash_seconds) / (one.trained_seconds + one.saved_seconds) for one in found
    ]
    return Record(
        claim=f"digits, {name}: time saved, net of hashing",
        metric="share of training every proposal",
        value=fmean(shares),
        spread=quartiles(shares),
        seeds=len(found),
        note=f"a search trained for {fmean(one.trained_seconds for one in found):.1f} s, was saved "
        f"{fmean(one.saved_seconds for one in found):.1f} s, and hashed for "
        f"{fmean(one.hash_seconds for one in found):.2f} s",
    )


def cost(found: Sequence[Found]) -> Record:
    """Hashing beside training."""
    shares = [one.hash_seconds / one.trained_seconds for one in found]
    return Record(
        claim="digits: hashing costs little beside training",
        metric="hashing over training, seconds",
        value=fmean(shares),
        spread=quartiles(shares),
        seeds=len(found),
        goal="< 0.01",
        holds=fmean(shares) < 0.01,
        note="two epochs of small cells; a longer training costs more, a hash doesn't",
    )


if __name__ == "__main__":
    main()
