"""What `submit` and `resume` share: the views around a run, its log file, and its end."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..core.errors import CatalogError, ClusterError, StaleLeaseError
from ..core.hookspecs import JobEvent, StageEvent, hookimpl
from ..core.registry import Registry
from ..storage.models import TERMINAL_TRIAL_STATES
from .console import console, print_json
from .jobs import opened, outcome_data, result
from .live import LiveView
from .mistakes import FAILED, INTERRUPTED
from .outcome import print_result
from .plain import PlainView
from .progress import Past, Progress
from .words import between, seconds

if TYPE_CHECKING:
    from ..scheduler.driver import JobOutcome
    from ..scheduler.settings import Settings

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def run(
    work: Callable[[], JobOutcome], registry: Registry, settings: Settings, *, as_json: bool, quiet: bool
) -> int:
    """Run a job under a progress view, print its end, and return the exit code."""
    progress = Progress(lambda job_id: _past(settings, job_id))
    registry.listen(progress)
    log = _Log(settings, progress)
    registry.listen(log)
    with _viewed(progress, log, stderr=as_json, quiet=quiet), _resumable(progress):
        outcome = work()
    if as_json:
        print_json(_data(outcome, settings))
    elif quiet:
        typer.echo(outcome.job_id)
    else:
        _print(outcome, settings)
    return {"finished": 0, "interrupted": INTERRUPTED}.get(outcome.state, FAILED)


@contextmanager
def _resumable(progress: Progress) -> Generator[None]:
    """Say how to go on when the driver itself can't."""
    try:
        yield
    except StaleLeaseError:
        raise  # another driver goes on
    except (CatalogError, ClusterError, KeyboardInterrupt):
        if progress.job:
            typer.echo(f"{progress.job} stopped: `orchestrate resume {progress.job}` continues it", err=True)
        raise


def _past(settings: Settings, job_id: str) -> Mapping[str, Past]:
    with opened(settings) as store:
        return {
            stage.name: [
                (row.number, row.state, row.values)
                for row in store.trials(stage_id=stage.id, states=TERMINAL_TRIAL_STATES)
            ]
            for stage in store.stages(job_id)
        }


@contextmanager
def _viewed(progress: Progress, log: _Log, *, stderr: bool, quiet: bool) -> Generator[None]:
    out = console(stderr=stderr)
    terminal = out.is_terminal and not out.is_dumb_terminal
    if not quiet:
        stream = sys.stderr if stderr else sys.stdout
        progress.view = LiveView(progress, out) if terminal else PlainView(progress, stream)
    log.start(_Warnings(out if terminal and not quiet else console(stderr=True)))
    try:
        yield
    finally:
        if progress.view:
            progress.view.close()
        log.stop()


class _Warnings(logging.Handler):
    """Shows warnings above the live view."""

    def __init__(self, out: Any) -> None:
        super().__init__(logging.WARNING)
        self.out = out

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.out.print(f"{record.levelname.lower()}: {record.getMessage()}", style="yellow")
        except (OSError, ValueError):
            self.handleError(record)


class _Log:
    """Keeps the run's log in `logs/<job>.log`; hears of Ctrl-C, so that the view can say so."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self.path: Path | None = None
        self._folder = settings.home / "logs"
        self._progress = progress
        self._logger = logging.getLogger("orchestrate")
        self._handlers: list[logging.Handler] = []

    def start(self, handler: logging.Handler) -> None:
        """Log from now on: warnings to `handler`, everything to the file once the job has an id."""
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False
        self._add(handler)

    def stop(self) -> None:
        """Close the file."""
        for handler in self._handlers:
            self._logger.removeHandler(handler)
            handler.close()
        self._handlers.clear()

    def _add(self, handler: logging.Handler) -> None:
        self._handlers.append(handler)
        self._logger.addHandler(handler)

    @hookimpl
    def job_started(self, event: JobEvent) -> None:
        """Open the file: the job has an id now."""
        self.path = log_path(self._folder.parent, event.job)
        self._folder.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(self.path, encoding="utf-8")
        formatter = logging.Formatter(LOG_FORMAT)
        formatter.default_time_format, formatter.default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s.%03d"
        handler.setFormatter(formatter)
        self._add(handler)
        self._logger.info("%s starts: %s", event.job, " ".join(sys.argv))

    @hookimpl
    def stage_started(self, event: StageEvent) -> None:
        """Be told of Ctrl-C as well as the driver, which has set its own handler by now."""
        before = signal.getsignal(signal.SIGINT)
        if not callable(before) or getattr(before, "tells_progress", False):
            return

        def told(number: int, frame: Any) -> None:
            self._progress.stop()
            before(number, frame)

        told.tells_progress = True  # type: ignore[attr-defined]
        signal.signal(signal.SIGINT, told)

    @hookimpl
    def job_finished(self, event: JobEvent) -> None:
        """Note the end."""
        self._logger.info("%s is %s %s", event.job, event.state, event.reason)


def log_path(home: Path, job_id: str) -> Path:
    """The log file of a job's driver on this machine."""
    return home / "logs" / f"{job_id}.log"


def _data(outcome: JobOutcome, settings: Settings) -> dict[str, Any]:
    with opened(settings) as store:
        data = outcome_data(store, store.job(outcome.job_id))
    return {**data, "state": outcome.state, "reason": outcome.reason, "report": outcome.report}


def _print(outcome: JobOutcome, settings: Settings) -> None:
    out = console()
    with opened(settings) as store:
        job = store.job(outcome.job_id)
        found = result(store, job)
        out.print(
            f"{job.id} {outcome.state} after {seconds(between(job.started_at, job.ended_at))}", style="bold"
        )
        if outcome.reason:
            out.print(outcome.reason)
        print_result(out, found)
        backlog = store.backlog(job.id)
    out.print()
    if outcome.report:
        out.print(f"Report  {_near(outcome.report)}", soft_wrap=True)
    if outcome.state in ("failed", "paused"):
        out.print(f"Causes  orchestrate logs {job.id}")
    if outcome.state in ("interrupted", "paused"):
        out.print(f"Resume  orchestrate resume {job.id}")
    if settings.lineage and not backlog:
        out.print(f"MLflow  orchestrate ui {job.id}")
    else:
        out.print(f"MLflow  orchestrate lineage sync {job.id}, then orchestrate ui {job.id}")


def _near(path: Path) -> Path:
    """The path as seen from here, where it lies below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
