"""Results that come when they count no more: kept where they belong, and without effect."""

from __future__ import annotations

import pytest

from orchestrate.core.errors import StaleLeaseError
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.check import check
from orchestrate.storage.ledger import Launch
from tests.storage.conftest import POLICY, Driver, result


def test_a_former_drivers_result_is_kept_as_late(driver: Driver, catalog: Catalog) -> None:
    trial_id = driver.launch(0, "k")
    driver.die()
    new = driver.revived()
    with pytest.raises(StaleLeaseError):
        driver.ledger.finish([result(trial_id, accuracy=0.9, attempt=1)])
    assert new.ledger.reconsider([trial_id], POLICY) == [Launch(trial_id, 2, "unknown so far")]
    assert set(new.ledger.finish([result(trial_id, accuracy=0.4, attempt=2)])) == {trial_id}
    with pytest.raises(StaleLeaseError):  # and once more, when the trial is over
        driver.ledger.finish([result(trial_id, accuracy=0.8, attempt=1)])
    first, second = catalog.attempts(trial_id)
    assert (first.state, second.state, second.late) == ("interrupted", "finished", None)
    assert first.late is not None
    assert first.late["metrics"]["accuracy"] == 0.9  # the first one stays
    assert new.trial(trial_id).values == {"accuracy": 0.4}
    assert new.events() == [("ask", 0), ("tell", 0)]
    assert check(catalog) == []


def test_a_lost_attempts_result_is_kept_as_late(driver: Driver, catalog: Catalog) -> None:
    trial_id = driver.launch(0, "k")
    driver.ledger.fail(trial_id, "lost", {"type": "LostError"}, "the node is silent", retry=True)
    assert set(driver.ledger.finish([result(trial_id, accuracy=0.9, attempt=1)])) == set()
    assert driver.trial(trial_id).state == "queued"
    driver.ledger.reconsider([trial_id], POLICY)
    assert set(driver.ledger.finish([result(trial_id, accuracy=0.8, attempt=1)])) == set()
    assert driver.trial(trial_id).state == "running"
    [first, _] = catalog.attempts(trial_id)
    assert first.late is not None
    assert first.late["metrics"]["accuracy"] == 0.9


def test_a_result_that_comes_twice_changes_nothing(driver: Driver, catalog: Catalog) -> None:
    one, other = driver.launch(0, "a"), driver.launch(1, "b")
    assert set(driver.ledger.finish([result(one, accuracy=0.5, attempt=1)])) == {one}
    both = [result(one, accuracy=0.9, attempt=1), result(other, accuracy=0.7, attempt=1)]
    assert set(driver.ledger.finish(both)) == {other}
    assert driver.trial(one).values == {"accuracy": 0.5}
    assert [attempt.late for attempt in catalog.attempts(one)] == [None]
    assert check(catalog) == []
