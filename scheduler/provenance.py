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
from ..core.registry import Source

PACKAGES = ("orchestrate-automl", "ray", "torch", "optuna", "mlflow", "numpy", "sqlalchemy")


def provenance(job: Job, without: Sequence[str]) -> dict[str, Any]:
    """Collect the job's provenance as JSON data."""
    return {
        "command": sys.argv,
        "goals": [asdict(goal) for goal in job.goals],
        "packages": versions(),
        "plugins": {
            f"{kind}:{name}": f"{source.distribution} {source.version}"
            for kind, name, source in used_plugins(job)
        },
        "batch": {stage.spec.name: stage.batch for stage in job.stages if not stage.spec.workers},
        "without": list(without),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "user": _user(),
        "git_commit": git_commit(),
    }


def used_plugins(job: Job) -> list[tuple[str, str, Source]]:
    """Kind, name and source of every plugin that the job runs."""
    used: list[Any] = [*([job.task] if job.uses_task else []), *job.objectives]
    for stage in job.stages:
        used += [stage.space, stage.program, stage.sampler, stage.fingerprint, stage.strategy]
    found: dict[tuple[str, str], Source] = {}
    for plugin in used:
        if plugin is not None and plugin.name != "none":
            found[plugin.kind, plugin.name] = job.registry.get(plugin.kind, plugin.name).source
    return [(kind, name, source) for (kind, name), source in found.items()]


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
