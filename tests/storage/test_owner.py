"""A lease's owner: known to be dead only where that is certain."""

from __future__ import annotations

import subprocess
import sys

import pytest

from orchestrate.core.errors import JobBusyError
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.owner import known_dead, shown, this_process
from tests.storage.conftest import draft


def another_process() -> str:
    code = "from orchestrate.storage.owner import this_process; print(this_process())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_who_lives_and_who_is_dead() -> None:
    me, dead = this_process(), another_process()
    assert not known_dead(me)
    assert known_dead(dead)
    assert shown(dead) == dead.split(" ")[0]
    # A process of that number that started at another time is another one.
    place, started, namespace = me.split(" ")
    assert known_dead(f"{place} {int(started) - 1} {namespace}")


@pytest.mark.parametrize("owner", [None, "", "me", "host:1", "host:99999999 5 other-boot/pid:[1]", "a b c"])
def test_others_may_live(owner: str | None) -> None:
    assert not known_dead(owner)


def test_a_killed_drivers_job_is_taken_at_once(catalog: Catalog) -> None:
    ledger = catalog.create_job(draft(), another_process(), 600)
    assert not catalog.owned(ledger.job_id)
    assert catalog.take_job(ledger.job_id, this_process(), 600).token == 2
    assert catalog.owned(ledger.job_id)
    with pytest.raises(JobBusyError, match=r"owned by \S+:\d+ for another"):
        catalog.take_job(ledger.job_id, "me", 60)
