"""Runs a job from its first stage to its report. One driver a job; only drivers write the catalog."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.candidate import Candidate
from ..core.crash import crash_point
from ..core.errors import ArtifactError, CatalogError, ClusterError, JobBusyError, OrchestrateError
from ..core.hookspecs import JobEvent, StageEvent
from ..core.job import Job, Stage
from ..core.registry import Registry
from ..core.resolver import resolve
from ..core.sampler import Sampler
from ..storage.artifacts import ArtifactStore
from ..storage.catalog import Catalog
from ..storage.ledger import JobDraft, Ledger, RecallPolicy
from ..storage.lineage import Drainer
from ..storage.models import StageRow, TrialRow
from ..storage.moved import follow
from ..storage.owner import this_process
from ..storage.report import write_report
from .cluster import Capacity, check_fit, cluster_capacity, concurrency, connect, local_capacity
from .engine import run_stage
from .examine import Examiner
from .files import FileTable, earlier_files, with_files
from .final import confirm, score_on_test
from .history import trained_kind
from .lease import LEASE_SECONDS, Heartbeat
from .provenance import provenance
from .recalling import familiarity, namespace, only_equal, recall_policy
from .runtime import Remit
from .selection import Taken, best, pareto
from .settings import Settings
from .stage import StageRun

PATIENCE_SECONDS = 300.0  # for which a driver waits for a catalog that went away

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobOutcome:
    """How a run of a job ended."""

    job_id: str
    state: str
    reason: str
    report: Path | None = None


class _Interrupted(Exception):
    """The run ends here and can be resumed: Ctrl-C, SIGTERM."""


class _Ended(Exception):
    """The job ends here in `state`."""

    def __init__(self, state: str, reason: str) -> None:
        super().__init__(reason)
        self.state = state
        self.reason = reason


def submit(job: Job, text: str, settings: Settings) -> JobOutcome:
    """Create the job in the catalog and run it to its end.

    Raises:
        SpecError: the cluster can never hold one of its trials. Nothing was created.
        ClusterError, CatalogError: the cluster or the catalog can't be reached.
    """
    check_fit(job, _capacity(settings))
    return _Run(job, create(job, text, settings), settings).run()


def create(job: Job, text: str, settings: Settings) -> Ledger:
    """Create the job in the catalog, owned by this process."""
    draft = JobDraft(
        name=job.spec.name,
        spec=job.spec.model_dump(mode="json", by_alias=True, exclude_none=True),
        text=text,
        seed=job.spec.seed,
        provenance=provenance(job, settings.without),
        stages=tuple(stage.spec.name for stage in job.stages),
    )
    catalog = Catalog.open(settings.catalog_url, patience=PATIENCE_SECONDS)
    follow(catalog, settings.home)
    return catalog.create_job(draft, this_process(), LEASE_SECONDS)


def resume(job_id: str, settings: Settings, registry: Registry | None = None) -> JobOutcome:
    """Run an unfinished job on from where the catalog says it stands.

    `registry` is one that listeners were added to; by default a fresh one.

    Raises:
        JobBusyError: another living driver owns it, or it is over.
        SpecError: its plugins no longer accept the job's file.
    """
    catalog = Catalog.open(settings.catalog_url, create=False, patience=PATIENCE_SECONDS)
    follow(catalog, settings.home)
    row = catalog.job(job_id)
    if row.state in ("finished", "cancelled"):
        raise JobBusyError(f"job {row.id} is {row.state}: there is nothing to resume")
    job = resolve(row.spec, registry or Registry.discover(settings.without))
    check_fit(job, _capacity(settings))
    return _Run(job, catalog.take_job(row.id, this_process(), LEASE_SECONDS), settings).run()


def _capacity(settings: Settings) -> Capacity:
    if settings.address is None:
        return local_capacity(settings)
    connect(settings)
    return cluster_capacity()


class _Run:
    def __init__(self, job: Job, ledger: Ledger, settings: Settings) -> None:
        self.job = job
        self.ledger = ledger
        self.catalog = ledger.catalog
        self.settings = settings
        self.stages: dict[str, StageRow] = {row.name: row for row in self.catalog.stages(ledger.job_id)}
        self.heartbeat = Heartbeat(ledger)
        self._drainer = Drainer(settings.catalog_url, ledger.job_id, settings.tracking_uri)
        self._signal = threading.Event()
        self._started_at = time.time()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="orchestrate-examine")
        self._task_digest: Future[str] | None = None

    def run(self) -> JobOutcome:
        """Run every stage that isn't finished, score, report; leave the catalog true in any case."""
        state, reason, report = "failed", "", None
        with ExitStack() as stack:
            stack.enter_context(self.heartbeat)
            stack.callback(self._executor.shutdown, wait=False, cancel_futures=True)
            try:
                self.ledger.start_job()
                self._notify("job_started", event=self._event("running"))
                if self.job.uses_task:
                    self._task_digest = self._executor.submit(self.job.task.digest)
                connect(self.settings)
                crash_point("ray")
                stack.enter_context(self._signals())
                self._work()
                state = "finished"
            except _Interrupted as stop:
                state, reason = "interrupted", str(stop)
            except _Ended as end:
                state, reason = end.state, end.reason
            except (CatalogError, ClusterError, KeyboardInterrupt) as error:  # a resume may do better
                state, reason = "interrupted", str(error) or "interrupted at once"
                raise
            except Exception as error:
                ours = isinstance(error, OrchestrateError)
                reason = str(error) if ours else f"{type(error).__name__}: {error}"
                raise
            finally:
                report = self._finally(state, reason)
                self._mirror()
        if self.settings.lineage:
            self._drainer.finish()
        return JobOutcome(self.ledger.job_id, state, reason, report)

    def _finally(self, state: str, reason: str) -> Path | None:
        """Leave the catalog true, as far as it lets us: what can't be written, a resume will."""
        if self.heartbeat.stale is not None:
            return None
        try:
            report = self._close(state, reason)
        except CatalogError as error:
            if state != "interrupted":
                raise
            log.warning("the job's end isn't recorded (%s); `orchestrate resume` goes on from here", error)
            return None
        self._notify("job_finished", event=self._event(state, reason))
        return report

    def _close(self, state: str, reason: str) -> Path | None:
        report: Path | None = None
        if state in ("finished", "failed", "cancelled"):
            folder = self.settings.home / "reports" / self.ledger.job_id
            report, artifacts = write_report(
                self.catalog, self.ledger.job_id, folder, state=state, reason=reason
            )
            crash_point("report")
            self.ledger.add_artifacts(artifacts)  # before the job's end, which sends them to MLflow
        self.ledger.end_job(state, reason)
        self.ledger.release()
        return report

    # The work -------------------------------------------------------------------------------------

    def _work(self) -> None:
        if self._task_digest is not None:
            shape = self.job.task.shape()
            self.ledger.set_provenance(
                task={
                    "name": self.job.spec.task_name,
                    "options": self.job.task.options.model_dump(mode="json"),
                    "digest": self._task_digest.result(),
                    "input": list(shape.input),
                    "classes": shape.classes,
                }
            )
        for stage in self.job.stages:
            if self.stages[stage.spec.name].state != "finished":
                self._stage(stage)
        self._test()

    def _stage(self, stage: Stage) -> None:
        row = self.stages[stage.spec.name]
        width = concurrency(stage, cluster_capacity())
        policy: RecallPolicy | None = None
        if stage.fingerprint is not None:
            fields = namespace(stage, self.job)
            policy = recall_policy(stage, fields)
            self.ledger.open_memory(policy, fields)
        examiner = Examiner(
            stage,
            self.job,
            hashing=not only_equal(stage),
            familiar=familiarity(self.catalog, policy, self.ledger.job_id),
        )
        if stage.fingerprint is not None and examiner.hashing:
            self._executor.submit(stage.fingerprint.prepare)
        self.ledger.start_stage(row.id, policy.context if policy else "")
        event = StageEvent(
            self.ledger.job_id,
            stage.spec.name,
            self._planned(stage),
            stage.goals,
            width,
            deadline=self._deadline(stage, row),
        )
        self._notify("stage_started", event=event)
        run = StageRun(
            stage,
            self.job,
            row.id,
            self.ledger,
            self._sampler(stage, examiner),
            policy,
            self._executor,
            self._notify,
            self._files_for(stage),
            event.deadline,
            self._why_stop,
            examiner,
        )
        run.restore()
        remit = self._remit(stage)
        try:
            run_stage(run, stage, remit, width)
        except BaseException as error:
            if self.heartbeat.stale is None:
                with suppress(CatalogError):  # else a resume queues them again
                    run.interrupt(f"the driver stopped: {type(error).__name__}: {error}")
            raise
        self._end_stage(stage, row, run)
        self._notify(
            "stage_finished",
            event=StageEvent(
                self.ledger.job_id, stage.spec.name, event.trials, stage.goals, width, "finished"
            ),
        )

    def _end_stage(self, stage: Stage, row: StageRow, run: StageRun) -> None:
        if self.heartbeat.stale is not None:
            raise self.heartbeat.stale
        if self.heartbeat.cancelled.is_set():
            run.cancel("the job was cancelled")
            self.ledger.end_stage(row.id, "cancelled", "the job was cancelled")
            raise _Ended("cancelled", "cancelled on request")
        if self._signal.is_set():
            run.interrupt("the driver was interrupted")
            raise _Interrupted("interrupted: resume it when you like")
        if run.paused:
            run.interrupt(run.reason)
            raise _Ended("paused", f"stage {stage.spec.name!r}: {run.reason}")
        if run.broken:
            run.cancel(run.reason)
            self.ledger.end_stage(row.id, "failed", run.reason)
            raise _Ended("failed", f"stage {stage.spec.name!r}: {run.reason}")
        rows = self.catalog.trials(stage_id=row.id)
        if not any(trial.state in ("finished", "recalled", "pruned") for trial in rows):
            last = next(
                (trial.reason for trial in reversed(rows) if trial.reason),
                "no candidate was proposed",
            )
            self.ledger.end_stage(row.id, "failed", last)
            raise _Ended("failed", f"stage {stage.spec.name!r} has no finished trial: {last}")
        self._confirm(stage, rows)
        self._keep_trained(stage, run.sampler)
        self.ledger.end_stage(row.id, "finished", run.reason)

    def _keep_trained(self, stage: Stage, sampler: Sampler) -> None:
        """Save what the sampler has trained, so that `sample` needn't train it again; it could."""
        saved = sampler.save()
        if saved is None:
            return
        store, job, name = ArtifactStore(self.settings.artifacts), self.ledger.job_id, stage.spec.name
        try:
            kept = store.put_bytes(saved, job, name, "sampler.state", trained_kind(name))
        except ArtifactError as error:
            log.warning("stage %s: %s. `orchestrate sample` will train again", name, error)
        else:
            self.ledger.add_artifacts([kept])

    def _confirm(self, stage: Stage, rows: Sequence[TrialRow]) -> None:
        """Train the best once more, where the stage recalls."""
        wanted = stage.spec.recall.confirm if stage.spec.recall else 0
        if wanted and not self._why_stop():
            several = len(stage.problem.optimised) > 1
            chosen = pareto(rows, stage.goals, wanted) if several else best(rows, stage.goals, wanted)
            unconfirmed = [row for row in chosen if row.confirmed is None]
            confirm(stage, self._remit(stage), unconfirmed, self.ledger, self._files_for(stage))

    def _planned(self, stage: Stage) -> int:
        if stage.spec.trials is not None:
            return stage.spec.trials
        return len(self._taken(stage)) if stage.sampler is None else 0

    def _deadline(self, stage: Stage, row: StageRow) -> float | None:
        now = time.time()
        limits: list[float] = []
        if stage.spec.time_budget is not None:
            limits.append(now + stage.spec.time_budget)
        if self.job.spec.time_budget is not None:
            limits.append(self._started_at + self.job.spec.time_budget)
        return min(limits, default=None)

    def _sampler(self, stage: Stage, examiner: Examiner) -> Sampler:
        sampler = stage.sampler or Taken(self._taken(stage))
        key = examiner.key if stage.fingerprint is not None else None
        sampler.start(replace(stage.problem, key=key))
        return sampler

    def _taken(self, stage: Stage) -> list[Candidate]:
        take = stage.spec.take
        if take is None:
            return [Candidate()]
        rows = self.catalog.trials(stage_id=self.stages[take.from_].id)
        goals = self.job.stage(take.from_).goals or self.job.goals
        chosen = pareto(rows, goals, take.pareto) if take.pareto else best(rows, goals, take.best or 1)
        if not chosen:
            raise _Ended("failed", f"stage {take.from_!r} has no feasible scored trial to take")
        return [Candidate(row.candidate) for row in chosen]

    def _remit(self, stage: Stage) -> Remit:
        return Remit(
            job_id=self.ledger.job_id,
            spec=json.dumps(self.catalog.job(self.ledger.job_id).spec),
            stage=stage.index,
            store=str(self.settings.artifacts),
            gpu=stage.resources.gpu > 0,
            without=self.settings.without,
        )

    def _files_for(self, stage: Stage) -> Callable[[Candidate], FileTable]:
        return earlier_files(self.catalog, self.ledger.job_id, self.job.stages[: stage.index], self.stages)

    def _test(self) -> None:
        """Score what the last searching stage chose on the test split: once, at the end."""
        stage = next((stage for stage in reversed(self.job.stages) if stage.goals), None)
        if stage is None or self._why_stop():
            return
        rows = self.catalog.trials(stage_id=self.stages[stage.spec.name].id)
        chosen = [row for row in pareto(rows, stage.goals) if row.test is None]
        score_on_test(stage, self._remit(stage), with_files(self.catalog, chosen), self.ledger)

    # Stopping and telling -------------------------------------------------------------------------

    def _why_stop(self) -> str | None:
        if self._signal.is_set():
            return "interrupted"
        if self.heartbeat.cancelled.is_set():
            return "cancelled"
        if self.heartbeat.stale is not None:
            return "another driver took the job over"
        return None

    @contextmanager
    def _signals(self) -> Generator[None]:
        """The first Ctrl-C or SIGTERM stops cleanly, the second at once. Set after Ray's own handlers."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def stop(_number: int, _frame: Any) -> None:
            if self._signal.is_set():
                raise KeyboardInterrupt
            self._signal.set()

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _mirror(self) -> None:
        """Let MLflow be told: from the first trial on, since the imports of that process would slow the start
        of the workers.
        """
        if self.settings.lineage:
            self._drainer.start()

    def _notify(self, hook: str, **arguments: Any) -> None:
        if hook in ("trial_started", "trial_finished"):
            self._mirror()
        try:
            getattr(self.job.registry.hook, hook)(**arguments)
        except Exception:
            log.exception("a listener failed in %s; the job goes on", hook)

    def _event(self, state: str, reason: str = "") -> JobEvent:
        return JobEvent(self.ledger.job_id, self.job.spec.name, tuple(self.stages), state, reason)
