"""`orchestrate submit` as a person runs it: a process in a folder with a job file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrate.storage.catalog import Catalog

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

ORCHESTRATE = str(Path(sys.executable).with_name("orchestrate"))

PROGRAM = """
import time

def train(trial, sleep: float = 0.0):
    time.sleep(sleep)
    return {"loss": (trial.candidate["x"] - 0.5) ** 2}
"""

JOB = """
name: tiny
space:
  name: hyperparameters
  choices:
    x: {real: [0.0, 1.0]}
objectives:
  - {metric: loss, direction: minimize}
stages:
  - name: search
    program: {name: "python:program:train"}
    sampler: {name: random}
    trials: 6
    concurrency: 1
seed: 1
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "job.yaml").write_text(JOB, encoding="utf-8")
    return tmp_path


def orchestrate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ORCHESTRATE, *arguments], capture_output=True, text=True, timeout=200, check=False)


def candidates(job: str) -> list[tuple[int, str, object]]:
    with Catalog.open(create=False) as catalog:
        return [(row.number, row.state, row.candidate) for row in catalog.trials(catalog.job(job).id)]


def test_a_job_runs_to_its_end_and_can_be_looked_at() -> None:
    ended = orchestrate("submit", "job.yaml", "--json")
    assert ended.returncode == 0, ended.stderr
    outcome = json.loads(ended.stdout)
    assert [state for _, state, _ in candidates("tiny")] == ["finished"] * 6
    assert Path(json.loads(ended.stdout)["report"]).is_file()
    listed = json.loads(orchestrate("list", "--json").stdout)
    assert [job["state"] for job in listed] == ["finished"]
    shown = json.loads(orchestrate("show", "tiny", "--trials", "--json").stdout)
    assert outcome["state"] == "finished"
    assert "loss" in json.dumps(shown)
    assert orchestrate("db", "check", "--files").returncode == 0
    assert orchestrate("lineage", "sync", "tiny").returncode == 0


def test_ctrl_c_and_resume_end_like_an_uninterrupted_run() -> None:
    slow = "--set=stages.search.program.sleep=0.7"
    with subprocess.Popen(
        [ORCHESTRATE, "submit", "job.yaml", slow, "--no-lineage"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "#1 finished" in line:
                process.send_signal(signal.SIGINT)
                break
        said = process.stdout.read()
        assert process.wait(timeout=60) == 130
    assert "orchestrate resume" in said
    before = candidates("tiny")
    assert {state for _, state, _ in before} <= {"finished", "queued"}
    begun = time.monotonic()
    resumed = orchestrate("resume", "tiny", "--no-lineage")
    assert resumed.returncode == 0, resumed.stderr
    assert time.monotonic() - begun < 120
    interrupted = candidates("tiny")
    whole = orchestrate("submit", "job.yaml", "--set=name=whole", "--no-lineage")
    assert whole.returncode == 0, whole.stderr
    assert interrupted == candidates("whole")


def test_a_job_with_mistakes_creates_nothing(folder: Path) -> None:
    ended = orchestrate(
        "submit", "job.yaml", "--set=stages.search.trails=3", "--set=space.name=hyperparameter"
    )
    assert ended.returncode == 2
    assert "trails" in ended.stderr
    assert "hyperparameters" in ended.stderr
    assert not (folder / ".orchestrate").exists()


def test_a_job_that_fails_exits_with_1_and_says_why(folder: Path) -> None:
    (folder / "program.py").write_text(
        "def train(trial):\n    raise ValueError('no luck')\n", encoding="utf-8"
    )
    ended = orchestrate("submit", "job.yaml", "--no-lineage", "--set=stages.search.trials=2")
    assert ended.returncode == 1
    assert "no luck" in ended.stdout + ended.stderr
