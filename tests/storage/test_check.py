"""Each kind of damage is found, and a sound catalog gives no finding."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from orchestrate.storage.artifacts import ArtifactStore
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.check import check
from tests.storage.conftest import Driver, proposal, result, started

# Trials of `sound`, in the order of their ids: 1 finished, 2 recalled from it, 3 running, 4 waits for it,
# 5 infeasible, 6 retried and finished. `~` stands for the tables' prefix.
DAMAGES = {
    "UPDATE ~jobs SET state = 'dreaming'": "has the unknown state 'dreaming'",
    "UPDATE ~stages SET state = 'dreaming'": "stage 1: has the unknown state",
    "UPDATE ~trials SET state = 'dreaming' WHERE id = 3": "trial 3: has the unknown state",
    "UPDATE ~attempts SET state = 'dreaming' WHERE id = 1": "attempt 1: has the unknown state",
    "UPDATE ~stages SET state = 'finished'": "stage 1: is finished, but 2 of its trials aren't over",
    "UPDATE ~jobs SET state = 'finished'": "is finished, but its stage 'search' isn't",
    "UPDATE ~trials SET ended_at = NULL WHERE id = 1": "trial 1: is over, but has no end time",
    "UPDATE ~trials SET ended_at = created_at WHERE id = 3": "trial 3: isn't over, but has an end",
    "UPDATE ~trials SET ended_at = '1999-01-01 00:00:00.000000' WHERE id = 1": "trial 1: ended before",
    "UPDATE ~trials SET candidate = '{\"x\":7}' WHERE id = 1": "trial 1: its candidate doesn't have",
    "UPDATE ~trials SET candidate = '[1]' WHERE id = 1": "trial 1: its candidate doesn't have",
    "DELETE FROM ~events WHERE trial_id = 1 AND kind = 'tell'": "trial 1: is finished with 1 ask and 0",
    "DELETE FROM ~events WHERE trial_id = 3": "trial 3: is running with 0 ask",
    "UPDATE ~events SET trial_id = 1 WHERE trial_id = 5": "trial 1: is finished with 2 ask and 2 tell",
    "UPDATE ~events SET kind = CASE kind WHEN 'ask' THEN 'tell' ELSE 'ask' END WHERE trial_id = 1": (
        "trial 1: was told before it was asked"
    ),
    "UPDATE ~events SET stage_id = 2 WHERE id = 1": "event 1: stands in another stage",
    "DELETE FROM ~attempts WHERE trial_id = 6 AND number = 1": "trial 6: counts 2 attempts, but 1",
    "UPDATE ~trials SET attempts = 0 WHERE id = 1": "trial 1: counts 0 attempts, but 1",
    "UPDATE ~attempts SET state = 'lost' WHERE trial_id = 3": "trial 3: is running with 0 running",
    "UPDATE ~attempts SET state = 'running' WHERE trial_id = 1": "trial 1: is finished with 1 running",
    "UPDATE ~trials SET recalled_from = NULL": "trial 2: is recalled from no trial",
    "UPDATE ~trials SET recalled_from = 1 WHERE id = 6": "trial 6: has a source, but isn't recalled",
    "UPDATE ~trials SET recalled_from = 5 WHERE id = 2": "from trial 5, which is infeasible",
    "UPDATE ~trials SET waits_for = 3 WHERE id = 1": "trial 1: waits, but isn't queued",
    "UPDATE ~evaluations SET trial_id = 3 WHERE id = 1": "comes from trial 3, which is running",
    "UPDATE ~claims SET trial_id = 1": "claim of class 2: is held by trial 1, which is finished",
    "DELETE FROM ~hits": "trial 2: is recalled, but nothing says what it was served",
    "UPDATE ~hits SET class_id = 2": "trial 2: was served from class 2, but belongs to class 1",
    "DELETE FROM ~outbox WHERE trial_id = 5": "trial 5: is over, but lineage is told so 0 times",
}


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


@pytest.fixture
def sound(catalog: Catalog, driver: Driver, store: ArtifactStore, tmp_path: Path) -> Catalog:
    (tmp_path / "model").write_text("weights")
    first = driver.launch(0, "k1")
    weights = store.put(tmp_path / "model", driver.job_id, "search", 0, "weights")
    driver.ledger.finish([result(first, artifacts=[weights])])
    driver.ask(proposal(1, "k1"), proposal(2, "k2"), proposal(3, "k2"), proposal(4, infeasible="too large"))
    retried = driver.launch(5, "k5")
    driver.ledger.fail(retried, "lost", {"type": "LostError"}, "node died", retry=True)
    driver.ledger.reconsider([retried], None)
    driver.ledger.finish([result(retried)])
    started(catalog, "another")
    return catalog


def test_a_sound_catalog_has_no_findings(sound: Catalog, store: ArtifactStore) -> None:
    assert check(sound, store) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found(sound: Catalog, damage: str) -> None:
    with sound.engine.begin() as connection:
        connection.exec_driver_sql(damage.replace("~", "orchestrate_"))
    findings = [str(finding) for finding in check(sound)]
    assert any(DAMAGES[damage] in finding for finding in findings), findings


def test_missing_and_changed_files_are_found(sound: Catalog, store: ArtifactStore) -> None:
    [row] = sound.artifacts_of(1)
    with sound.engine.begin() as connection:
        connection.execute(text("UPDATE orchestrate_artifacts SET size = 8"))
    assert [str(finding) for finding in check(sound, store)] == ["artifact 1: has 7 bytes, recorded 8"]
    Path(row.uri).write_text("weighty")
    assert "has changed" in check(sound, store)[0].problem
    Path(row.uri).unlink()
    assert "is missing" in check(sound, store)[0].problem
    assert check(sound) == []  # without a store, files are nobody's business


def test_broken_references_are_found(tmp_path: Path) -> None:
    with Catalog.open(str(tmp_path / "c.db")) as catalog:
        driver = started(catalog)
        driver.launch(0)
        connection = catalog.engine.raw_connection()
        connection.execute("PRAGMA foreign_keys=OFF")  # type: ignore[attr-defined]
        connection.execute("DELETE FROM orchestrate_trials")  # type: ignore[attr-defined]
        connection.close()
        findings = [str(finding) for finding in check(catalog)]
    assert "orchestrate_events row 1: refers to a row of orchestrate_trials that isn't there" in findings


def test_a_damaged_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    with Catalog.open(str(path)) as catalog:
        driver = started(catalog)
        for number in range(30):
            driver.launch(number, f"k{number}")
    content = bytearray(path.read_bytes())
    where = content.rindex(b"trial_started")
    content[where - 300 : where] = bytes(300)
    path.write_bytes(content)
    with Catalog.open(str(path)) as catalog:
        assert "database" in {finding.where for finding in check(catalog)}
