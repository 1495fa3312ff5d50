"""What a job was made by: versions, plugins, code, host. Enough to run it again."""

from __future__ import annotations

import getpass
import platform
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..core.job import Job

PACKAGES = ("orchestrate-automl", "ray", "torch", "optuna", "mlflow", "numpy", "sqlalchemy")


def provenance(job: Job, without: Sequence[str]) -> dict[str, Any]:
    """Collect the job's provenance as JSON data."""
    return {
        "command": sys.argv,
        "goals": [asdict(goal) for goal in job.goals],
        "packages": versions(),
        "plugins": {
            f"{entry.plugin.kind}:{entry.plugin.name}": f"{entry.source.distribution} {entry.source.version}"
            for entry in job.registry
        },
        "without": list(without),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "user": _user(),
        "git_commit": git_commit(),
    }


def versions() -> dict[str, str]:
    """Installed versions of the packages that results depend on."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def git_commit() -> str:
    """Commit of the folder the job was submitted from, `+` when it has changes; "" outside git."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        )
        status = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return commit.stdout.strip() + ("+" if status.stdout.strip() else "")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
