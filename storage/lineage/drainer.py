"""Starts and ends the process that mirrors a job to MLflow beside it.

A process of its own: MLflow costs the driver nothing, not even its import. In a process group of its
own: Ctrl-C in the terminal doesn't reach it. Not in a session of its own: Linux may give each session an
equal share of the processors, whatever the priorities.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import IO

from ...core.errors import CatalogError
from ..catalog import Catalog
from ..engine import VARIABLE

log = logging.getLogger(__name__)

TRACKING = "MLFLOW_TRACKING_URI"
NICENESS = 15
LOOK = 2.0  # seconds in which a delivery that is alive has made progress

_left_running: list[subprocess.Popen[bytes]] = []  # kept, so that nobody complains about their being alive


class Drainer:
    """Mirrors one job while it runs. Nothing here raises into the job; trouble is logged."""

    def __init__(self, catalog_url: str, job_id: str, tracking_uri: str) -> None:
        self._catalog_url = catalog_url
        self._job_id = job_id
        self._tracking_uri = tracking_uri
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None

    def start(self) -> None:
        """Start delivering, unless that was done before."""
        if self._errors is not None:
            return
        # The URLs may hold passwords, which everyone on the machine could read in the arguments.
        environment = {**os.environ, VARIABLE: self._catalog_url, TRACKING: self._tracking_uri}
        # -P: a folder of the user's called `orchestrate` isn't this package.
        command = [sys.executable, "-P", "-m", __package__ or "", "--job", self._job_id]
        self._errors = tempfile.TemporaryFile(prefix="orchestrate-lineage-")  # noqa: SIM115 - closed in finish
        try:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,  # its end tells the process that this one is gone
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                process_group=0,
            )
        except OSError as error:
            log.warning("the lineage of job %s isn't mirrored: %s", self._job_id, error)
            return
        _left_running.append(self._process)
        with suppress(OSError):  # no more than a trial: Ray's workers have this niceness
            os.setpriority(os.PRIO_PROCESS, self._process.pid, NICENESS)

    def finish(self, patience: float = 20) -> int:
        """Wait until everything is delivered, for `patience` seconds at most.

        A delivery that is still under way then goes on by itself; one that gets nowhere is stopped.

        Returns:
            Number of events left undelivered (`orchestrate lineage sync` delivers them); 0 normally.
        """
        process = self._process
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                self._settle(process)
            if process.returncode is not None:
                _left_running.remove(process)
            self._process = None
            self._tell()
        return self._backlog()

    def _settle(self, process: subprocess.Popen[bytes]) -> None:
        """Let a process go on that makes progress; end one that doesn't."""
        before = self._backlog()
        until = time.monotonic() + LOOK
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
            if self._backlog() < before:
                return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _tell(self) -> None:
        """Log what the process complained about."""
        if self._errors is None:
            return
        with self._errors as file:
            file.seek(0)
            text = file.read().decode(errors="replace").strip()
        self._errors = None
        if text:
            log.warning("lineage of job %s: %s", self._job_id, text[-2000:])

    def _backlog(self) -> int:
        try:
            with Catalog.open(self._catalog_url, create=False) as catalog:
                return catalog.backlog(self._job_id)
        except CatalogError as error:
            log.warning("how much lineage is left can't be told: %s", error)
            return 1
