"""`kill -9` of the delivery behind each of its requests: the next one completes the record, nothing twice."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from orchestrate.storage.catalog import Catalog
from tests.reliability.conftest import FULL
from tests.reliability.drivers import KILLED, delivery, ended
from tests.reliability.tree import tree
from tests.storage.finished_job import write_all

pytestmark = pytest.mark.timeout(7200 if FULL else 600)


def deliver(folder: Path, crash: str = "list:0:/dev/null") -> int | None:
    return ended(delivery(str(folder / "catalog.db"), store_of(folder), crash), 300)


def store_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


def test_the_record_is_complete_wherever_its_delivery_was_killed(
    tmp_path: Path, chance: random.Random
) -> None:
    template = tmp_path / "template"
    template.mkdir()
    with Catalog.open(str(template / "catalog.db")) as catalog:
        job_id = write_all(catalog, template).job_id
    tree(store_of(template), job_id)  # makes the empty store, once

    whole = shutil.copytree(template, tmp_path / "whole")
    assert deliver(whole, f"list:0:{tmp_path / 'points'}") == 0
    wanted = tree(store_of(whole), job_id)
    assert len(wanted) > 20
    passed = Counter((tmp_path / "points").read_text(encoding="utf-8").split())
    every = [(name, number) for name in ("mlflow", "commit") for number in range(1, passed[name] + 1)]
    assert len(every) > 50
    chosen = every if FULL else [("commit", 1), *chance.sample(every, 3)]
    print(f"{len(chosen)} of {len(every)} points: {chosen}")
    for name, number in chosen:
        folder = shutil.copytree(template, tmp_path / f"{name}-{number}")
        assert deliver(folder, f"{name}:{number}:{folder / 'died'}") == KILLED
        assert deliver(folder) == 0
        assert tree(store_of(folder), job_id) == wanted, (name, number)
        shutil.rmtree(folder)
