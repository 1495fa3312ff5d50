"""The catalog's database away, locked or full: a driver waits, or stops clearly; nothing is corrupted."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from orchestrate.core.errors import CatalogError, CatalogUnavailableError
from orchestrate.storage import engine
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.check import check
from orchestrate.storage.ledger import Launch
from tests.embedded_postgres import Server, embedded_postgres
from tests.storage.conftest import Driver, proposal, result, started


def work(driver: Driver, numbers: range) -> int:
    """Run trials until they are through, or the catalog fails for good; the next number."""
    for number in numbers:
        [decision] = driver.ask(proposal(number, f"key {number}"))
        assert isinstance(decision, Launch)
        driver.ledger.finish([result(decision.trial_id, accuracy=number / 1000, attempt=1)])
    return numbers.stop


def all_there(driver: Driver, count: int) -> None:
    rows = driver.ledger.catalog.trials(driver.job_id)
    assert [row.number for row in rows] == list(range(count))
    assert [row.values["accuracy"] for row in rows] == [number / 1000 for number in range(count)]
    assert {row.state for row in rows} == {"finished"}
    assert check(driver.ledger.catalog) == []


# PostgreSQL ---------------------------------------------------------------------------------------


@pytest.fixture
def own_server() -> Iterator[Server]:
    with embedded_postgres() as server:
        with psycopg.connect(host=server.folder, user="postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE runs")
        yield server


@pytest.mark.postgres
def test_a_job_outlives_restarts_of_postgresql(own_server: Server) -> None:
    url = f"postgresql+psycopg://postgres@/runs?host={own_server.folder}"
    over = threading.Event()
    restarts = 0

    def restart() -> None:
        nonlocal restarts
        while not over.wait(0.7):
            own_server.stop()
            time.sleep(0.5)
            own_server.start()
            restarts += 1

    with Catalog.open(url, patience=60) as catalog:
        driver = started(catalog)
        thread = threading.Thread(target=restart)
        thread.start()
        number, stops = 0, 0
        try:
            while restarts < 3:
                try:
                    number = work(driver, range(number, number + 10))
                except CatalogError as error:  # it went away in the middle of a commit
                    if "isn't known" not in str(error):
                        raise
                    stops += 1
                    driver, number = _taken_over(driver)
        finally:
            over.set()
            thread.join()
        print(f"{number} trials, {restarts} restarts, {stops} stops")
        all_there(driver, number)


def _taken_over(driver: Driver) -> tuple[Driver, int]:
    """The next driver, and the number of trials, however often the server goes away meanwhile."""
    while True:
        try:
            driver.die()
            driver = driver.revived()
            return driver, _tidy(driver)
        except (CatalogError, OperationalError):
            time.sleep(0.1)


def _tidy(driver: Driver) -> int:
    """What a resume does: run what is open; the number of trials."""
    for row in driver.ledger.catalog.trials(driver.job_id, states=("queued",)):
        [decision] = driver.ledger.reconsider([row.id], None)
        assert isinstance(decision, Launch)
        told = result(row.id, accuracy=row.number / 1000, attempt=decision.attempt)
        driver.ledger.finish([told])
    return len(driver.ledger.catalog.trials(driver.job_id))


@pytest.mark.postgres
def test_a_server_that_stays_away_is_said_clearly(own_server: Server) -> None:
    url = f"postgresql+psycopg://postgres@/runs?host={own_server.folder}"
    with Catalog.open(url, patience=0.5) as catalog:
        driver = started(catalog)
        work(driver, range(3))
        own_server.stop()
        begun = time.monotonic()
        try:
            with pytest.raises(CatalogUnavailableError, match="Check that the server runs"):
                work(driver, range(3, 4))
            assert time.monotonic() - begun > 0.5
            with pytest.raises(CatalogUnavailableError):
                catalog.jobs()
        finally:
            own_server.start()
        work(driver, range(3, 5))
        all_there(driver, 5)


# SQLite -------------------------------------------------------------------------------------------


def test_a_locked_database_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.05)
    with Catalog.open(str(tmp_path / "catalog.db"), patience=30) as catalog:
        driver = started(catalog)
        work(driver, range(2))
        holder = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None, check_same_thread=False)
        holder.execute("BEGIN IMMEDIATE")
        threading.Timer(1.0, lambda: holder.execute("COMMIT")).start()
        work(driver, range(2, 5))
        all_there(driver, 5)
        holder.execute("BEGIN IMMEDIATE")
        with Catalog.open(str(tmp_path / "catalog.db")) as impatient:
            other = Driver(driver.ledger, driver.stage_id)
            other.ledger.catalog = impatient
            with pytest.raises(CatalogUnavailableError, match="Another process has held it"):
                work(other, range(5, 6))
            assert len(impatient.trials()) == 5  # reading goes on
        holder.execute("COMMIT")
        holder.close()


def test_eight_writers_of_one_sqlite_catalog_lose_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "catalog.db")
    with Catalog.open(path) as catalog:
        drivers = [started(catalog, f"job {number}") for number in range(8)]
        errors: list[BaseException] = []

        def run(driver: Driver) -> None:
            try:
                with Catalog.open(path, patience=60) as own:
                    driver.ledger.catalog = own
                    for number in range(15):
                        work_on = proposal(number, f"{driver.job_id} {number}")
                        [decision] = driver.ask(work_on)
                        driver.ledger.finish([result(decision.trial_id, accuracy=number / 1000)])
                        driver.ledger.heartbeat()
            except BaseException as error:  # noqa: BLE001 - shown below
                errors.append(error)

        threads = [threading.Thread(target=run, args=(driver,)) for driver in drivers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        for driver in drivers:
            driver.ledger.catalog = catalog
            all_there(driver, 15)


def test_a_full_disk_stops_the_job_clearly_and_leaves_what_was_written(tmp_path: Path) -> None:
    with Catalog.open(str(tmp_path / "catalog.db"), patience=60) as catalog:
        driver = started(catalog)
        done = work(driver, range(3))
        with catalog.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

        def limit(connection: sqlite3.Connection, _record: object) -> None:
            connection.execute(f"PRAGMA max_page_count={pages + 4}")

        event.listen(catalog.engine, "connect", limit)
        catalog.engine.dispose()
        with pytest.raises(CatalogError, match=r"is full.*Make room.*resume"):
            work(driver, range(done, 1000))
        assert check(catalog) == []
        event.remove(catalog.engine, "connect", limit)
        catalog.engine.dispose()
        driver.die()  # its process ended with the error
        driver = driver.revived()
        done = _tidy(driver)
        assert done > 3
        all_there(driver, work(driver, range(done, done + 20)))
