"""The services and the isolation that conftest promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser


ROOT = Path(__file__).parents[1]


def double(number: int) -> int:
    return 2 * number


class TestIsolation:
    def test_a_variable_set_here(self, tmp_path: Path) -> None:
        assert Path.cwd() == tmp_path
        os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///leak.db"

    def test_is_gone_here(self) -> None:
        assert "MLFLOW_TRACKING_URI" not in os.environ


@pytest.mark.ray
def test_ray_runs_a_function_of_a_test_module(ray_cluster: str) -> None:
    import ray

    assert ray_cluster
    assert ray.get(ray.remote(double).remote(21)) == 42


@pytest.mark.postgres
@pytest.mark.parametrize("attempt", [1, 2])
def test_postgres_database_is_fresh(postgres_url: str, attempt: int) -> None:
    from sqlalchemy import create_engine, text

    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (x INTEGER)"))  # fails where it exists
    engine.dispose()


@pytest.mark.browser
def test_browser_renders(browser: Browser, tmp_path: Path) -> None:
    page_file = tmp_path / "page.html"
    page_file.write_text("<title>x</title><script>document.title = 6 * 7</script>")
    page = browser.new_page()
    page.goto(page_file.as_uri())
    assert page.title() == "42"
    page.close()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("@pytest.mark.gpu\ndef test_it(): pytest.skip('no device')", 0),
        ("@pytest.mark.xfail\ndef test_it(): assert False", 0),
        ("def test_it(): pytest.skip('no service')", 1),
        ("pytest.importorskip('no_such_module')", 1),
    ],
    ids=["gpu", "xfail", "skip", "module"],
)
def test_gate_on_skips(tmp_path: Path, body: str, code: int) -> None:
    (tmp_path / "test_skips.py").write_text(f"import pytest\n\n{body}\n")
    (tmp_path / "test_other.py").write_text("def test_it(): pass\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.conftest",
            "-c",
            ROOT / "pyproject.toml",
            tmp_path,
        ],
        env={**os.environ, "ORCHESTRATE_NO_SKIPS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert ("may not be skipped" in done.stdout) == bool(code)
    assert " passed" in done.stdout.splitlines()[-1]
