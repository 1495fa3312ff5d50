"""Every benchmark runs, in its smallest form, and writes records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.conftest import BENCHMARKS
from tests.benchmarks.test_record import KEYS

SCRIPTS = sorted(path.name for path in BENCHMARKS.glob("[!_]*.py") if path.name != "report.py")


@pytest.mark.ray
@pytest.mark.timeout(300)
@pytest.mark.parametrize("script", SCRIPTS)
def test_smoke(script: str, ray_cluster: str, tmp_path: Path) -> None:
    out = tmp_path / "records.json"
    done = subprocess.run(
        [sys.executable, BENCHMARKS / script, "--smoke", "--json", out],
        env={**os.environ, "RAY_ADDRESS": ray_cluster},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    records = json.loads(out.read_text())
    assert records
    for record in records:
        assert record.keys() == KEYS
        low, high = record["spread"]
        assert low <= high
        assert (record["holds"] is None) == (record["goal"] == "")
