"""Opening a catalog, finding jobs, reading them."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from datetime import UTC
from pathlib import Path

import pytest
from sqlalchemy import text

from orchestrate.core.errors import CatalogError, JobBusyError, JobNotFoundError
from orchestrate.storage.catalog import Catalog
from tests.storage.conftest import Driver, draft, proposal, result, started


def test_a_new_catalog_is_made_with_its_folder(tmp_path: Path) -> None:
    with Catalog.open(str(tmp_path / "deep" / "down" / "catalog.db")) as catalog:
        assert catalog.jobs() == []
    assert (tmp_path / "deep/down/catalog.db").exists()


def test_the_default_catalog_is_in_the_working_folder_or_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Catalog.open().close()
    assert Path(".orchestrate/catalog.db").exists()
    monkeypatch.setenv("ORCHESTRATE_CATALOG", str(tmp_path / "other.db"))
    with Catalog.open() as catalog:
        assert catalog.path == tmp_path / "other.db"


def test_a_relative_path_keeps_its_meaning_when_the_process_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog.open("sqlite:///here.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with Catalog.open(catalog.url, create=False) as again:
        assert again.path == tmp_path / "here.db"
    catalog.close()


def test_reading_where_nothing_was_submitted_says_so_and_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"no job was submitted from here yet.*ORCHESTRATE_CATALOG"):
        Catalog.open(create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("mysql://me:hunter2@host/db", "can't be kept in 'mysql'"),
        ("postgresql://me:hunter2@host:port/db", "can't be read"),
        ("postgresql://me:hunter2@/db?host=/nowhere", "Check that the server runs"),
        ("postgresql://me@/db?host=/nowhere&password=hunter2", "Check that the server runs"),
    ],
)
def test_an_unusable_url_is_explained_without_its_secrets(url: str, message: str) -> None:
    with pytest.raises(CatalogError, match=message) as caught:
        Catalog.open(url)
    assert "hunter2" not in str(caught.value)


def test_a_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(CatalogError, match=r"orchestrate-automl\[postgres\]"):
        Catalog.open("postgresql://me@/db?host=/nowhere")


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_text("my notes, rather long, so that SQLite reads a header of them" * 9)
    with pytest.raises(CatalogError, match=r"not a database.*name another file"):
        Catalog.open(str(tmp_path / "catalog.db"))
    assert (tmp_path / "catalog.db").read_text().startswith("my notes")


def test_other_revisions_are_refused_with_the_way_on(catalog: Catalog) -> None:
    def set_revision(revision: str) -> None:
        with catalog.engine.begin() as connection:
            connection.execute(
                text("UPDATE orchestrate_alembic_version SET version_num = :r"), {"r": revision}
            )

    set_revision("0000")
    with pytest.raises(CatalogError, match="orchestrate db upgrade"):
        Catalog.open(catalog.url)
    set_revision("9999")
    with pytest.raises(CatalogError, match="install a newer Orchestrate"):
        Catalog.open(catalog.url)


def test_an_empty_database_isnt_a_catalog_yet(url: str) -> None:
    if url.startswith("sqlite"):
        sqlite3.connect(url.removeprefix("sqlite:///")).close()
        Path(url.removeprefix("sqlite:///")).touch()
    with pytest.raises(CatalogError, match="there is no catalog in"):
        Catalog.open(url, create=False)


def test_sqlite_is_set_up_for_several_processes(tmp_path: Path) -> None:
    for durable, synchronous in ((False, 1), (True, 2)):
        with Catalog.open(str(tmp_path / "catalog.db"), durable=durable) as catalog:
            with catalog.engine.connect() as connection:
                pragmas = [
                    connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                    for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
                ]
            assert pragmas == ["wal", 1, synchronous, 30_000]


def test_a_job_is_found_by_id_prefix_and_name(catalog: Catalog) -> None:
    first = catalog.create_job(draft("digits"), "me", 60).job_id
    second = catalog.create_job(draft("digits"), "me", 60).job_id
    other = catalog.create_job(draft("fashion 1"), "me", 60).job_id
    assert catalog.job(first).id == first
    assert catalog.job("digits").id == second  # the newest of that name
    assert catalog.job(other[:-2]).id == other
    assert other.startswith("fashion-1-")
    assert [row.id for row in catalog.jobs()] == [other, second, first]
    assert [row.id for row in catalog.jobs(limit=1)] == [other]


@pytest.mark.parametrize("reference", ["digts", "%", "", "digits-%"])
def test_an_unknown_job_gets_near_misses(catalog: Catalog, reference: str) -> None:
    with pytest.raises(JobNotFoundError, match="holds no jobs yet"):
        catalog.job(reference)
    job_id = catalog.create_job(draft("digits"), "me", 60).job_id
    with pytest.raises(JobNotFoundError, match=job_id) as caught:
        catalog.job(reference)
    assert ("Did you mean 'digits'" in str(caught.value)) == reference.startswith("dig")


def test_an_ambiguous_prefix_lists_the_jobs(catalog: Catalog) -> None:
    ids = [catalog.create_job(draft("digits"), "me", 60).job_id for _ in range(2)]
    with pytest.raises(JobNotFoundError, match="begins the ids of 2 jobs") as caught:
        catalog.job("digit")
    assert all(job_id in str(caught.value) for job_id in ids)


def test_everything_written_is_read_back(catalog: Catalog) -> None:
    driver = started(catalog)
    trial_id = driver.launch(0, "k")
    driver.ledger.finish([result(trial_id, accuracy=0.75)])
    row = catalog.trial(trial_id)
    assert (row.state, row.candidate, row.seed) == ("finished", {"x": 0, "kind": "a"}, 2**62)
    assert list(row.candidate) == ["x", "kind"]  # a candidate's choices have an order
    assert (row.values, row.metrics) == ({"accuracy": 0.75}, {"accuracy": 0.75, "loss": 1.0})
    assert row.timings.pop("record") > 0
    assert row.timings == {"propose": 0.25, "run": 2.0}
    assert row.keys == [["functional", "k"]]
    assert row.test is None
    assert row.created_at.tzinfo is UTC
    assert row.ended_at is not None
    assert row.created_at <= row.ended_at
    job = catalog.job(driver.job_id)
    assert (job.state, job.spec, job.seed) == ("running", {"name": "digits job"}, 7)
    assert catalog.backlog() == catalog.backlog(job.id) == 4
    assert catalog.backlog("another") == 0
    assert catalog.counts(driver.stage_id) == {"finished": 1}


def test_trials_come_by_stage_and_number(catalog: Catalog) -> None:
    ledger = catalog.create_job(draft(stages=("one", "two")), "me", 60)
    one, two = catalog.stages(ledger.job_id)
    assert (one.name, two.name) == ("one", "two")
    for stage, number in ((two, 1), (one, 2), (two, 0), (one, 0)):
        ledger.propose(stage.id, [proposal(number)], None)
    assert [(row.stage_id, row.number) for row in catalog.trials(ledger.job_id)] == [
        (one.id, 0),
        (one.id, 2),
        (two.id, 0),
        (two.id, 1),
    ]
    assert [row.number for row in catalog.trials(stage_id=two.id)] == [0, 1]
    assert catalog.trials(ledger.job_id, states=("finished",)) == []
    assert len(catalog.trials(states=("running",))) == 4
    with pytest.raises(CatalogError, match="no trial of id 12345"):
        catalog.trial(12345)


def test_cancelling_is_asked_of_a_living_driver(driver: Driver, catalog: Catalog) -> None:
    assert driver.ledger.heartbeat() is False
    catalog.request_cancel(driver.job_id)
    assert driver.ledger.heartbeat() is True
    assert catalog.job(driver.job_id).state == "running"
    driver.ledger.start_job()
    assert driver.ledger.heartbeat() is False  # a resumed job isn't cancelled by an old request


def test_a_job_without_a_driver_is_cancelled_at_once(driver: Driver, catalog: Catalog) -> None:
    running = driver.launch(0, "k")
    driver.ask(proposal(1, "k"))
    driver.die()
    catalog.request_cancel(driver.job_id)
    assert catalog.job(driver.job_id).state == "cancelled"
    assert catalog.counts(driver.stage_id) == {"cancelled": 2}
    assert driver.events() == [("ask", 0), ("ask", 1), ("tell", 0), ("tell", 1)]
    with pytest.raises(CatalogError, match="no longer this driver's"):
        driver.ledger.finish([result(running)])
    with pytest.raises(CatalogError, match="is cancelled already"):
        catalog.request_cancel(driver.job_id)


def test_a_living_drivers_job_cant_be_taken(driver: Driver, catalog: Catalog) -> None:
    with pytest.raises(JobBusyError, match=r"owned by first driver for another (59|60) s"):
        catalog.take_job(driver.job_id, "me", 60)
    with pytest.raises(JobNotFoundError, match="no job 'nobody'"):
        catalog.take_job("nobody", "me", 60)


def test_workers_and_the_command_line_load_no_database(tmp_path: Path) -> None:
    code = (
        "import sys, orchestrate.storage, orchestrate.storage.artifacts\n"
        "from orchestrate.storage import ArtifactStore\n"
        "assert 'sqlalchemy' not in sys.modules\n"
        "from orchestrate.storage import Catalog\n"
        "Catalog.open().close()\n"
        "assert not {'alembic', 'mlflow', 'ray', 'torch'} & sys.modules.keys()\n"
    )
    Catalog.open().close()
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
