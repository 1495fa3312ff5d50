"""Delivers outboxes to MLflow: once and for all (`sync`), or for as long as a job runs (`follow`)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ...core.errors import OrchestrateError
from ..catalog import Catalog
from . import outbox
from .failures import DeletedError, RefusedError, UnreachableError, classified
from .mirror import Mirror, grouped

log = logging.getLogger(__name__)

BATCH = 100  # rows between two acknowledgements: what a crash repeats at most
TRIES = 3  # of `sync`, and of `follow` once the job has ended
PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)  # seconds between tries
IDLE = 0.5  # seconds between looks at an empty outbox

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SyncResult:
    """What a delivery achieved. `remaining` rows are still in the catalog; `error` says why."""

    delivered: int
    remaining: int
    error: str = ""


def sync(
    catalog: Catalog,
    tracking_uri: str,
    job_id: str | None = None,
    progress: Progress | None = None,
    *,
    afresh: bool = False,
    tries: int = TRIES,
    pause: Callable[[float], None] = time.sleep,
) -> SyncResult:
    """Deliver what is still undelivered, of one job or of all.

    Args:
        catalog: where the outbox is.
        tracking_uri: the MLflow store.
        job_id: one job; None: every job with a backlog.
        progress: called with the numbers of rows delivered and known to be deliverable so far.
        afresh: deliver everything of `job_id` again, for a new MLflow store or one that was lost.
        tries: how often an unreachable MLflow is tried.
        pause: waits so many seconds.
    """
    if afresh:
        assert job_id is not None
        outbox.reopen(catalog.engine, job_id)
    jobs = [job_id] if job_id is not None else outbox.jobs_with_backlog(catalog.engine)
    delivered, errors = 0, list[str]()
    for number in jobs:
        with outbox.exclusive(catalog, number) as mine:
            if not mine:
                errors.append(f"job {number} is being delivered by another process")
                continue
            delivery = Delivery(catalog, number, tracking_uri, progress, delivered)
            for attempt in range(tries):
                if attempt:
                    pause(PAUSES[min(attempt - 1, len(PAUSES) - 1)])
                if delivery.run():
                    break
            delivered = delivery.delivered
            if delivery.error:
                errors.append(f"job {number}: {delivery.error}")
            if delivery.unreachable:
                break  # the other jobs' MLflow is the same one
    remaining = catalog.backlog(job_id)
    return SyncResult(delivered, remaining, "; ".join(errors) if remaining else "")


def follow(
    catalog: Catalog,
    job_id: str,
    tracking_uri: str,
    over: Callable[[], bool],
    pause: Callable[[float], None] = time.sleep,
) -> bool:
    """Deliver a job's outbox until the job is `over` and nothing is left, or MLflow stays away then.

    Returns whether everything was delivered.
    """
    while True:
        with outbox.exclusive(catalog, job_id) as mine:
            if mine:
                return _follow(Delivery(catalog, job_id, tracking_uri), over, pause)
        if over() and not catalog.backlog(job_id):
            return True
        pause(1.0)


def _follow(delivery: Delivery, over: Callable[[], bool], pause: Callable[[float], None]) -> bool:
    failures, last_tries = 0, 0
    told = ""
    while True:
        ending = over()  # asked first: what is written before the end is then delivered
        if delivery.run():
            failures = 0
            if ending:
                return not delivery.refused
            pause(IDLE)
            continue
        if delivery.error != told:
            told = delivery.error
            log.warning("%s; the job goes on, its record is kept and sent later", told)
        failures += 1
        last_tries += ending
        if last_tries >= TRIES:
            return False
        wait = PAUSES[min(failures - 1, len(PAUSES) - 1)]
        for _ in range(max(1, int(wait / IDLE))):
            pause(IDLE)
            if not ending and over():
                break


@dataclass
class Delivery:
    """Delivers one job's outbox; may be run again and again."""

    catalog: Catalog
    job_id: str
    tracking_uri: str
    progress: Progress | None = None
    delivered: int = 0
    error: str = ""
    unreachable: bool = False
    refused: list[int] = field(default_factory=list[int])
    """Rows that MLflow refuses for good: they stay undelivered, and are not tried again here."""
    _mirror: Mirror | None = None
    _failed: bool = False

    def run(self) -> bool:
        """Deliver all there is. Returns whether MLflow could be reached to the end."""
        try:
            while rows := outbox.pending(self.catalog.engine, self.job_id, BATCH, self.refused):
                if self._mirror is None:
                    # A new one learns anew which runs there are: the former's last request may have
                    # arrived although it seemed to fail.
                    self._mirror = Mirror(self.catalog, self.job_id, self.tracking_uri)
                    if self._failed:
                        self._mirror.recheck()
                self._deliver(self._mirror, rows)
            if self._mirror is not None and self._mirror.doubtful:
                self._mirror.recheck()
        except Exception as error:
            told = classified(error)
            if told is None:
                raise
            self._mirror, self._failed = None, True
            self.unreachable = isinstance(told, UnreachableError)
            self.error = f"MLflow can't be written to: {told}"
            return False
        self.unreachable = False
        self.error = self.error if self.refused else ""
        return True

    def _deliver(self, mirror: Mirror, rows: list[outbox.OutboxRow]) -> None:
        done: dict[int, float] = {}
        try:
            for row, ids in grouped(rows):
                begun = time.perf_counter()
                try:
                    mirror.deliver(row)
                except Exception as error:
                    told = classified(error)
                    if isinstance(told, DeletedError):
                        pass  # a person's decision
                    elif isinstance(told, RefusedError):
                        self._refuse(row, ids, told)
                        continue
                    else:
                        raise
                done |= dict.fromkeys(ids, 0.0) | {row.id: time.perf_counter() - begun}
        finally:
            outbox.acknowledge(self.catalog.engine, done, mirror.store, mirror.take_new())
            self.delivered += len(done)
            if self.progress is not None and done:
                self.progress(self.delivered, self.delivered + self.catalog.backlog(self.job_id))

    def _refuse(self, row: outbox.OutboxRow, ids: list[int], error: OrchestrateError) -> None:
        about = f"trial id {row.trial_id}" if row.trial_id else f"stage id {row.stage_id or ''}"
        self.error = f"MLflow refuses {row.kind} ({about}): {error}"
        self.refused += ids
