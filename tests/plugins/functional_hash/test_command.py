from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrate.core import SpecError
from orchestrate.plugins.functional_hash.command import app
from orchestrate.plugins.functional_hash.study import Study

JOB = """
name: losses
space: {name: symbolic-loss, nodes: 2}
objectives: [{name: accuracy}]
stages:
  - name: search
    program: {name: symbolic-loss, epochs: 1}
    sampler: {name: random}
    recall: {name: functional-hash, isolate: false}
    trials: 3
"""
SQUARED = (
    '{"nodes": 2, "node0": "subtract", "node0.left": 0, "node0.right": 1, "node1": "square", "node1.left": 3}'
)
SWAPPED = (
    '{"nodes": 2, "node0": "subtract", "node0.left": 1, "node0.right": 0, "node1": "square", "node1.left": 3}'
)
OTHER = '{"nodes": 1, "node0": "exp", "node0.left": 0}'


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    return path


def run(*arguments: Any) -> str:
    ended = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def test_study_counts_keys_by_quantum(job: Path, tmp_path: Path) -> None:
    plot = tmp_path / "plot.html"
    found = json.loads(run("study", job, "-n", 60, "--plot", plot, "--json"))
    assert found["candidates"] == found["probed"] <= 60
    assert found["keys"]["1"] <= found["keys"]["1e-06"] <= found["structural"] < found["candidates"]
    assert "candidates of symbolic-loss" in plot.read_text()
    shown = run("study", job, "-n", 10)
    assert "in use" in shown
    assert "canonical forms" in shown


def test_the_plateau_is_around_the_quantum_in_use() -> None:
    keys = {1e-9: 9, 1e-8: 7, 1e-7: 7, 1e-6: 7, 1e-5: 5}
    found = Study(10, 10, None, keys, 1e-6, 1e-12, 8, {}, 0.01)
    assert found.plateau == (1e-8, 1e-6)
    assert found.smallest == pytest.approx(4e-10)


def test_explain_says_what_is_equal_and_where_two_part(job: Path, tmp_path: Path) -> None:
    lines = run("explain", job, SQUARED, SWAPPED).splitlines()
    assert lines[:2] == ["exact: different", "structural: different"]
    assert lines[2].startswith("functional: equal on the grid and the shifted grid")
    (tmp_path / "other.json").write_text(OTHER)
    lines = run("explain", job, SQUARED, f"@{tmp_path / 'other.json'}").splitlines()
    assert "apart by" in lines[2]
    assert "more outputs differ" in lines[-1]


def test_mistakes(job: Path) -> None:
    for arguments in (["explain", job, "[1]", OTHER], ["explain", job, "{", OTHER]):
        with pytest.raises(SpecError, match="JSON object"):
            run(*arguments)
    with pytest.raises(SpecError, match=r"no stage 'serach'\. Did you mean 'search'"):
        run("study", job, "--stage", "serach")
