"""What every test gets: isolation, kinds and their order, the gate on skips, and the services.

Services (Ray, PostgreSQL, Chromium) start once, when the first test asks for them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests.embedded_postgres import embedded_postgres

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# A shell ignores Ctrl-C in what it starts in the background, and the commands under test would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# In the order in which they run: quick answers first. Cluster tests come after all that share
# the session's Ray, since a process can be connected to one Ray only.
KINDS = ("unit", "postgres", "ray", "cluster", "browser", "gpu")

# Variables that change what the code under test does.
ISOLATED = ("ORCHESTRATE_", "MLFLOW_", "RAY_ADDRESS")

CHROMIUM = Path("/usr/bin/chromium")

# A busy machine is no failure; each test has a time limit of its own.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

# Two threads on two busy cores wait for each other more than they compute. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Ray would set this when a test first starts it, too late for processes that were made before.
os.environ["RAY_AUTH_MODE"] = "token"

# Neither a test nor a process that it starts tells anyone outside.
os.environ["DO_NOT_TRACK"] = "true"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("ORCHESTRATE_NO_SKIPS") == "1" and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipGate())
    for name in _isolated_variables():
        del os.environ[name]


# tryfirst: xdist reads the groups in its own hook.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank: dict[str, int] = {}
    for item in items:
        kinds = [kind for kind in KINDS if item.get_closest_marker(kind)]
        if not kinds:
            item.add_marker("unit")
        kind = kinds[-1] if kinds else "unit"
        if kind != "unit":  # under `-n 2 --dist loadgroup`, a service starts in one process only
            item.add_marker(pytest.mark.xdist_group("ray" if kind == "cluster" else kind))
        rank[item.nodeid] = KINDS.index(kind)
    items.sort(key=lambda item: rank[item.nodeid])


class SkipGate:
    """With ORCHESTRATE_NO_SKIPS=1, fails a run in which a test not marked `gpu` was skipped."""

    def __init__(self) -> None:
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # An expected failure is reported as skipped, too.
        if report.skipped and not hasattr(report, "wasxfail") and "gpu" not in report.keywords:
            self._add(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._add(report)

    def _add(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        self.skipped.append(f"{report.nodeid}: {reason}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self.skipped and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.skipped:
            terminalreporter.section("tests that may not be skipped here", red=True, bold=True)
            for line in self.skipped:
                terminalreporter.line(line)


def _isolated_variables() -> list[str]:
    return [name for name in os.environ if name.startswith(ISOLATED)]


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test starts in an empty folder of its own and leaves no variable to the next."""
    monkeypatch.chdir(tmp_path)
    yield
    for name in _isolated_variables():  # MLflow sets its own when it is told a tracking URI
        del os.environ[name]


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """The session's Ray: one node, four CPUs (more than the machine may have; tests wait more
    than they compute). Gives its address. A `cluster` test first calls `ray.shutdown()`.
    """
    import ray

    context: Any = ray.init(
        address="local",
        num_cpus=4,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield context.address_info["address"]
    ray.shutdown()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with embedded_postgres() as server:
        yield server.folder


_database_number = count(1)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """SQLAlchemy's URL of a fresh, empty PostgreSQL database."""
    import psycopg

    name = f"test_{next(_database_number)}"
    admin = {"host": postgres_server, "user": "postgres", "dbname": "postgres"}
    with psycopg.connect(**admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield f"postgresql+psycopg://postgres@/{name}?host={postgres_server}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


# Not for the session: Playwright's loop counts as running in this thread for as long as it is
# open, and asyncio.run would fail in every later test. A start takes about a second.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, headless. Open a page with `browser.new_page()`."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is missing: install Debian's package chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",  # Chromium's own sandbox refuses root
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield chromium
        chromium.close()
