"""The short form runs with all tests, the long one as `make chaos`. CHAOS_SEED repeats a printed seed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from tests.reliability.drivers import Home

FULL = os.environ.get("CHAOS") == "full"


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers: another draw each week, so that a failure is there again when it is looked into;
    with `make chaos`, another each run.
    """
    year, week, _ = datetime.now(UTC).isocalendar()
    drawn = random.SystemRandom().randrange(10**6) if FULL else 100 * year + week
    seed = int(os.environ.get("CHAOS_SEED") or drawn)
    print(f"{request.node.name}: CHAOS_SEED={seed}")
    return random.Random(seed)


MakeHome = Callable[[], Home]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def make_home(request: pytest.FixtureRequest, ray_cluster: str, tmp_path: Path) -> Iterator[MakeHome]:
    """Makes a job's home, each with a catalog of its own, on the session's Ray."""
    numbers = count()
    with ExitStack() as databases:

        def make() -> Home:
            number = next(numbers)
            url = None
            if request.param == "postgresql":
                import psycopg

                server = request.getfixturevalue("postgres_server")
                name = f"chaos_{os.getpid()}_{number}"
                admin = psycopg.connect(host=server, user="postgres", dbname="postgres", autocommit=True)
                databases.callback(admin.close)
                admin.execute(f"CREATE DATABASE {name}")
                databases.callback(admin.execute, f"DROP DATABASE {name} WITH (FORCE)")
                url = f"postgresql+psycopg://postgres@/{name}?host={server}"
            return Home(tmp_path / f"home-{number}", ray_cluster, url)

        yield make


@pytest.fixture
def home(ray_cluster: str, tmp_path: Path) -> Home:
    """One job's home with a SQLite catalog, on the session's Ray."""
    return Home(tmp_path / "home", ray_cluster)
