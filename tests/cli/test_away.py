"""A job sent through the Jobs API of a Ray head that asks for a token; its driver runs over there."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
import yaml

from orchestrate.storage.catalog import Catalog

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

MODULE = """
def bowl(trial, fail=False):
    if fail:
        raise ValueError("no luck")
    return {"loss": trial.candidate["x"] ** 2 + trial.candidate["y"] ** 2}
"""
JOB = {
    "name": "afar",
    "space": {"name": "hyperparameters", "choices": {"x": {"real": [-1, 1]}, "y": {"real": [-1, 1]}}},
    "objectives": [{"metric": "loss", "direction": "minimize"}],
    "stages": [
        {
            "name": "search",
            "program": {"name": "python:afar_bowl:bowl"},
            "sampler": {"name": "random"},
            "trials": 3,
        }
    ],
}
MAIN = "import sys; from orchestrate.cli.main import main; sys.argv[0] = 'orchestrate'; main()"

Call = Callable[..., subprocess.CompletedProcess[str]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text("a" * 64, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def head(token: Path) -> Iterator[str]:
    """The address of the dashboard of a head of its own."""
    ray.shutdown()
    dashboard = free_port()
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2"]
    command += [f"--port={free_port()}", "--include-dashboard=true", f"--dashboard-port={dashboard}"]
    command += ["--dashboard-agent-listen-port=0", "--object-store-memory=100000000", "--disable-usage-stats"]
    bin_folder = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "PATH": os.pathsep.join([bin_folder, os.environ["PATH"]]),
    }
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    address = f"http://127.0.0.1:{dashboard}"
    end = time.monotonic() + 90
    while not answers(address, token):
        assert process.poll() is None
        assert time.monotonic() < end, "the dashboard didn't start"
        time.sleep(0.5)
    yield address
    process.terminate()
    try:
        process.wait(30)
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def answers(address: str, token: Path) -> bool:
    request = urllib.request.Request(
        f"{address}/api/version", headers={"Authorization": f"Bearer {token.read_text()}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture
def call(tmp_path: Path, token: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command line in a folder with a job and the module that it names."""
    (tmp_path / "afar_bowl.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "afar.yaml").write_text(yaml.safe_dump(JOB), encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, key: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "ORCHESTRATE_HOME": str(tmp_path / "shared"), **more}
        del environment["RAY_AUTH_MODE"]
        if key:
            environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        return subprocess.run(
            [sys.executable, "-c", MAIN, *arguments],
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
            env={name: value for name, value in environment.items() if value},
        )

    return run


@pytest.fixture
def catalog_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'catalog.db'}"


def test_a_job_runs_over_there_with_the_module_it_names(head: str, call: Call, catalog_url: str) -> None:
    ended = call("submit", "afar.yaml", "--address", head, "--catalog", catalog_url, "--no-lineage")
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert "3 trials: 3 finished" in ended.stdout
    planned = json.loads(call("plan", "afar.yaml", "--address", head, "--json").stdout)
    assert planned["capacity"] == {"cpu": 2.0, "gpu": 0.0, "node_cpu": 2.0, "node_gpu": 0.0}
    shown = json.loads(call("status", "--json", ORCHESTRATE_CATALOG=catalog_url).stdout)
    assert shown["state"] == "finished"
    assert shown["remote"]["address"] == head
    printed = call("logs", "afar", ORCHESTRATE_CATALOG=catalog_url).stdout
    assert f"Printed by the driver on {head}" in printed
    assert "search #2 finished" in printed


def test_a_failed_job_is_resumed_over_there(head: str, call: Call, catalog_url: str) -> None:
    there = ["--address", head, "--catalog", catalog_url, "--no-lineage"]
    failing = ["--set", "stages.search.program.fail=true", "--set", "stages.search.retry={budget: 0}"]
    ended = call("submit", "afar.yaml", "--json", *failing, *there)
    assert ended.returncode == 1, ended.stderr
    assert json.loads(ended.stdout)["state"] == "failed"
    with Catalog.open(catalog_url) as catalog:
        before = catalog.jobs()[0].provenance["remote"]["submission"]
        call("resume", "afar", "--quiet", *there)
        after = catalog.jobs()[0].provenance["remote"]["submission"]
    assert (before[-2:], after[-2:]) == ("-1", "-2")


def test_what_would_not_work_from_afar_is_refused_and_nothing_created(
    head: str, call: Call, catalog_url: str
) -> None:
    there = ["submit", "afar.yaml", "--address", head]
    cases = [
        (call(*there), 2, "give --catalog postgresql://"),
        (call(*there, "--catalog", "postgresql://me:secret@db/x"), 2, "has a password"),
        (call(*there, "--catalog", catalog_url, ORCHESTRATE_HOME=""), 2, "ORCHESTRATE_ARTIFACTS"),
        (call(*there, "--catalog", catalog_url, key=False), 1, "RAY_AUTH_TOKEN"),
        (
            call(*there[:3], f"http://127.0.0.1:{free_port()}", "--catalog", catalog_url),
            1,
            "does it run ray[default]?",
        ),
        (
            call(*there, "--catalog", catalog_url, "--set", "resources={cpu: 3}"),
            2,
            "the largest node has 2",
        ),
    ]
    for ended, code, text in cases:
        assert (ended.returncode, text in ended.stderr) == (code, True), ended.stderr
        assert "secret" not in ended.stderr
    assert not Path(catalog_url.removeprefix("sqlite:///")).exists()
