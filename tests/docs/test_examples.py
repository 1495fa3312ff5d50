"""The example of a plugin package installs, keeps its contracts, and runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrate.core import load
from orchestrate.core.registry import Registry
from tests.docs.pages import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package in it, built from a copy."""
    copy = tmp_path_factory.mktemp("source") / "plugin"
    shutil.copytree(ROOT / "examples/plugin", copy, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("target")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    call([sys.executable, "-m", "pip", "install", *options, str(copy)], target)
    return target


def call(command: list[str], target: Path, folder: Path | None = None) -> str:
    """Run a command that finds the package; give its output."""
    path = os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples/plugin/tests", tmp_path / "tests")
    shutil.copy(ROOT / "examples/plugin/job.yaml", tmp_path)
    assert "6 passed" in call([sys.executable, "-m", "pytest", "-q", "tests"], installed, tmp_path)


@pytest.mark.ray
def test_its_job_runs(installed: Path, tmp_path: Path) -> None:
    orchestrate = [sys.executable, "-c", "from orchestrate.cli.main import main; main()"]
    job = str(ROOT / "examples/plugin/job.yaml")
    submit = [*orchestrate, "submit", job, "--set", "stages.search.trials=8", "--no-lineage", "--quiet"]
    call(submit, installed, tmp_path)
    shown = json.loads(call([*orchestrate, "show", "--trials", "--json"], installed, tmp_path))
    states = [trial["state"] for trial in shown if trial["state"] != "infeasible"]
    assert len(states) == 8
    assert set(states) <= {"finished", "recalled"}
    assert all(trial["values"]["weight-bytes"] <= 64000 for trial in shown if trial["state"] == "finished")


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*.yaml")), ids=lambda path: path.name)
def test_job_file_is_right(path: Path) -> None:
    load(path, Registry.discover())
