"""Runs MLflow's own server over a store, for `orchestrate ui`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from ...core.errors import OrchestrateError
from .links import artifact_root

START_SECONDS = 90  # a cold start on a busy machine; usually 5


@dataclass
class Server:
    """A running server. Stops when the `with` block ends."""

    url: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    def stop(self) -> None:
        """End the server with all its workers."""
        for number, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                break
            try:
                self.process.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                continue
        self.process.wait()
        self.log.close()

    def wait(self) -> int:
        """Wait until the server ends by itself; its exit status."""
        return self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start(tracking_uri: str, host: str = "127.0.0.1", port: int = 0, artifacts: Path | None = None) -> Server:
    """Start the server and wait until it answers.

    Args:
        tracking_uri: a database's: an http(s) one is a server already.
        host: address to listen on; others than loopback let everyone who reaches it read and write.
        port: 0 picks a free one.
        artifacts: where runs made *through* the server keep their files; by default beside a SQLite store.

    Raises:
        OrchestrateError: it doesn't come up; the text has the end of its log.
    """
    if tracking_uri.startswith(("http:", "https:")):
        raise OrchestrateError("the tracking URI is a server's: open it in a browser, nothing needs starting")
    root = artifacts or artifact_root(tracking_uri) or Path("mlflow-artifacts").absolute()
    chosen = port or _free_port(host)
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--host", host, "--port", str(chosen)]
    command += ["--workers", "1", "--artifacts-destination", str(root)]
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": tracking_uri,  # may hold a password: not among the arguments
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
    }
    log = tempfile.TemporaryFile(prefix="orchestrate-mlflow-server-")  # noqa: SIM115 - closed by stop
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
    server = Server(f"http://{f'[{host}]' if ':' in host else host}:{chosen}", process, log)
    until = time.monotonic() + START_SECONDS
    while not _healthy(server.url):
        if process.poll() is not None or time.monotonic() > until:
            log.seek(0)
            said = log.read().decode(errors="replace").strip()[-1500:]
            server.stop()
            raise OrchestrateError(f"MLflow's server doesn't come up on {server.url}. It said:\n{said}")
        time.sleep(0.1)
    return server


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=1) as answer:  # noqa: S310 - http, by `start`
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
