"""`orchestrate ui` and `orchestrate lineage sync`, with MLflow's own server."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from orchestrate.storage.catalog import Catalog
from orchestrate.storage.engine import writing
from orchestrate.storage.models import OutboxRow
from tests.cli.conftest import Run
from tests.cli.test_main import MAIN


def test_a_tracking_server_is_linked_to_and_nothing_is_started(run: Run, done: str) -> None:
    ended = run("ui", "--tracking", "http://mlflow.example:5000", "--no-browser")
    assert ended.code == 0
    assert f"MLflow knows nothing of {done} yet: `orchestrate lineage sync {done}`" in ended.out
    assert f"{done}: http://mlflow.example:5000\n" in ended.out


def test_a_store_that_another_stands_in_for_is_told_afresh(run: Run, done: str, catalog: Catalog) -> None:
    with writing(catalog.engine) as session:
        session.execute(update(OutboxRow).values(done_at=datetime.now(UTC)))
    ended = run("ui", "--tracking", "http://other.example:5000", "--no-browser")
    assert f"`orchestrate lineage sync {done} --afresh`" in ended.out


def test_sync_needs_a_job_to_begin_afresh(run: Run, done: str) -> None:
    ended = run("lineage", "sync", "--afresh")
    assert ended.code == 2
    assert "--afresh needs a JOB" in ended.err


def test_what_mlflow_lacks_is_sent_once_and_then_served(run: Run, done: str) -> None:
    sent = json.loads(run("lineage", "sync", "--json").out)
    assert sent["delivered"] > 6
    assert sent["remaining"] == 0
    assert run("lineage", "sync").out == "MLflow has everything.\n"
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "ui", "made", "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    link = re.fullmatch(rf"{done}: (http://127\.0\.0\.1:\d+)/#/experiments/(\d+)/runs/(\w+)(\?.*)\n", line)
    assert link is not None, line
    base, experiment, run_id, query = link.groups()
    assert query == "?workflowType=machine_learning"
    assert f"{base}/#/experiments/{experiment}/runs{query}" in process.stdout.readline()
    api = f"{base}/api/2.0/mlflow/runs/get?run_id={run_id}"
    with urllib.request.urlopen(api, timeout=30) as answer:
        assert json.load(answer)["run"]["info"]["run_name"]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(base, timeout=5)
