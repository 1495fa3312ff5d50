"""What surrounds a run: terminal, pipe, quiet, JSON, cancellation from outside."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrate.scheduler.settings import Settings
from orchestrate.storage.catalog import Catalog
from tests.cli.conftest import Run
from tests.cli.test_main import MAIN

pytestmark = pytest.mark.ray

PROGRAM = '''
import time


def fit(trial, seconds: float = 0.0, wrong: bool = False):
    """A bowl."""
    time.sleep(seconds)
    if wrong:
        raise ValueError("no luck")
    x = float(trial.candidate["x"])
    return {"loss": (x - 0.3) ** 2, "cost": x}
'''
JOB: dict[str, Any] = {
    "name": "bowl",
    "space": {"name": "hyperparameters", "choices": {"x": {"real": [0, 1]}}},
    "objectives": [
        {"metric": "loss", "direction": "minimize"},
        {"metric": "cost", "direction": "minimize"},
    ],
    "stages": [
        {
            "name": "search",
            "program": {"name": "python:bowl_program:fit"},
            "sampler": {"name": "random"},
            "trials": 6,
        }
    ],
    "seed": 5,
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> None:
    """The folder that a person works in: a job file and a program."""
    (tmp_path / "bowl_program.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "bowl.yaml").write_text(yaml.safe_dump(JOB), encoding="utf-8")


def submit(address: str, *arguments: str) -> list[str]:
    fixed = ["submit", "bowl.yaml", "--no-lineage", "--address", address]
    return [sys.executable, "-c", MAIN, *fixed, *arguments]


def test_a_pipe_gets_plain_lines_and_the_result(ray_cluster: str, run: Run) -> None:
    ended = subprocess.run(submit(ray_cluster), capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert not re.search(r"[^\n\x20-\x7e─…]", ended.stdout)  # no control characters
    lines = ended.stdout.splitlines()
    assert lines[1] == "stage search: 6 trials"
    trials = [line for line in lines if re.match(r"search #\d finished \[\d/6\]  loss [\d.e-]+, cost ", line)]
    assert len(trials) == 6
    assert "6 trials: 6 finished" in lines
    assert any(line.startswith("Pareto front of stage search") for line in lines)
    report = next(line.split()[1] for line in lines if line.startswith("Report"))
    assert Path(report).is_file()
    assert re.search(r"MLflow  orchestrate lineage sync bowl-\w{6}, then orchestrate ui", ended.stdout)
    assert re.search(r"driver INFO orchestrate: bowl-\w{6} starts", run("logs").out)


def test_a_failed_job_as_json_leaves_stdout_to_the_data(ray_cluster: str) -> None:
    overrides = ["--set", "stages.search.program.wrong=true", "--set", "stages.search.trials=2"]
    command = submit(ray_cluster, "--json", *overrides)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    data = json.loads(ended.stdout)
    assert ended.returncode == 1
    assert data["state"] == "failed"
    assert "ValueError: no luck" in data["reason"]
    assert data["trials"] == {"failed": 2}
    assert data["pareto"] == []
    assert re.search(r"search #[01] failed \[1/2\]  ValueError: no luck", ended.stderr)


def test_a_quiet_job_is_cancelled_from_outside(ray_cluster: str, run: Run) -> None:
    slow = ["--set", "stages.search.program.seconds=0.5", "--set", "stages.search.trials=1000"]
    process = subprocess.Popen(
        submit(ray_cluster, "--quiet", *slow), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 60
    while not trials_done():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.1)
    assert "Driver alive" in run("status").out
    ended = run("cancel", "bowl", "--wait", "40")
    assert (ended.code, "is cancelled" in ended.out) == (0, True), ended
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert re.fullmatch(r"bowl-\w{6}\n", out)
    assert err == ""


def trials_done() -> int:
    """Finished trials of the newest job."""
    if not Path(".orchestrate/catalog.db").exists():
        return 0
    with Catalog.open(Settings().catalog_url) as catalog:
        jobs = catalog.jobs(limit=1)
        return len(catalog.trials(jobs[0].id, states=("finished",))) if jobs else 0


def test_a_terminal_gets_a_live_view_that_fits_it(ray_cluster: str) -> None:
    reader, writer = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "30"}
    process = subprocess.Popen(
        submit(ray_cluster, "--set", "stages.search.program.seconds=0.3"),
        stdin=writer,
        stdout=writer,
        stderr=writer,
        env=environment,
    )
    os.close(writer)
    shown = bytearray()
    while True:
        try:
            shown += os.read(reader, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            break
    os.close(reader)
    assert process.wait(60) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert max(len(line) for line in re.split(r"[\r\n]+", text)) <= 80
    assert "starting Ray" in text
    assert "done  running" in text
    assert "hypervolume" in text
    final = text[text.rindex(" finished after ") :]
    assert "Pareto front of stage search" in final
    assert "orchestrate ui bowl-" in final
