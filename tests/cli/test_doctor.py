"""`orchestrate doctor`."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from orchestrate.core.errors import DataError
from orchestrate.core.registry import Registry
from tests.cli.conftest import Run
from tests.cli.test_main import distribution

Findings = dict[str, list[dict[str, str]]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fashion-MNIST takes seconds to read."""
    task = Registry.discover().get("task", "fashion-mnist").plugin
    monkeypatch.setattr(task, "split", lambda *_: None)


def findings(run: Run, *arguments: str) -> tuple[int, Findings]:
    ended = run("doctor", "--json", *arguments)
    by_check: Findings = {}
    for finding in json.loads(ended.out):
        by_check.setdefault(finding["check"], []).append(finding)
    return ended.code, by_check


def test_a_sound_machine(run: Run) -> None:
    code, found = findings(run, "--no-ray")
    assert code == 0
    assert {"python", "packages", "plugins", "disk", "gpu", "catalog", "mlflow", "data"} <= set(found)
    assert found["catalog"][0]["state"] == "ok"
    assert "none yet" in found["catalog"][0]["text"]
    assert not Path(".orchestrate").exists()  # looking creates nothing


def test_a_broken_plugin_fails_with_a_remedy(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path / "site", "acme-bad", "[orchestrate.plugins]\nbad = no_such_module\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    code, found = findings(run, "--no-ray")
    assert code == 1
    assert found["plugins"][1]["state"] == "fail"
    assert "--without bad" in found["plugins"][1]["remedy"]


def test_a_catalog_of_another_version_fails_and_says_what_to_do(run: Run, done: str) -> None:
    assert "1 job" in findings(run, "--no-ray")[1]["catalog"][0]["text"]
    with closing(sqlite3.connect(".orchestrate/catalog.db")) as database, database:
        database.execute("UPDATE orchestrate_alembic_version SET version_num = '0000'")
    code, found = findings(run, "--no-ray")
    assert code == 1
    assert "orchestrate db upgrade" in found["catalog"][0]["text"]


def test_a_tracking_server_that_does_not_answer_fails(run: Run) -> None:
    code, found = findings(run, "--no-ray", "--tracking", "http://127.0.0.1:9")
    assert code == 1
    assert found["mlflow"][0]["state"] == "fail"
    assert "lineage sync" in found["mlflow"][0]["remedy"]


def test_missing_data_is_a_warning_with_the_way_to_get_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_self: object, _name: str) -> None:
        raise DataError("the digits are gone\nbring them back")

    monkeypatch.setattr(Registry.discover().get("task", "digits").plugin, "split", missing)
    code, found = findings(run, "--no-ray")
    assert code == 0
    data = {finding["text"]: finding for finding in found["data"]}
    assert data["task digits: the digits are gone"]["remedy"] == "bring them back"


def test_the_lines_begin_with_their_state(run: Run) -> None:
    lines = run("doctor", "--no-ray").out.splitlines()
    assert all(line[:4].strip() in ("ok", "warn", "fail", "") for line in lines)


@pytest.mark.ray
def test_ray_is_reached(run: Run, ray_cluster: str) -> None:
    _, found = findings(run, "--address", ray_cluster)
    assert found["ray"][0]["state"] == "ok"
    assert "4 CPU cores" in found["ray"][0]["text"]
