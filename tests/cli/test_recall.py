"""`orchestrate recall …` on a catalog that the ledger made."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import yaml
from sqlalchemy import select, update

from orchestrate.core import Candidate
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.drafts import Proposal, Result
from orchestrate.storage.engine import writing
from orchestrate.storage.models import JobRow, StageRow, TrialRow
from orchestrate.storage.recall import Launch
from tests.cli.conftest import SPEC, Make, Run

CELL = {f"edge_{a}_{b}": "none" for a, b in ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))}


def test_statistics_show_hits_by_tier_and_the_time_they_saved(run: Run, done: str) -> None:
    shown = run("recall", "stats").out
    assert f"Stage search, job {done}: 6 proposals, 5 trainings, 1 hit (16.7%)" in shown
    assert "exact" in shown
    [data] = json.loads(run("recall", "stats", done, "--json").out)
    assert (data["by_tier"], data["saved_seconds"], data["hits"]) == ({"exact": 1}, {"exact": 2.0}, 1)
    assert data["net_seconds"] == pytest.approx(2.0 - data["hash_seconds"])


def test_a_trials_score_is_traced_to_its_source(run: Run, done: str) -> None:
    shown = run("recall", "why", f"{done}/search/4").out
    assert "was answered by a match of tier exact: accuracy 0.95" in shown
    assert f"{done}/search/1" in shown
    data = json.loads(run("recall", "why", f"{done}/4", "--json").out)
    assert [source["number"] for source in data["sources"] if source["served"]] == [1]
    assert "Trial #0 is finished" in run("recall", "why", f"{done}/0").out


@pytest.mark.parametrize(
    ("reference", "mistake"),
    [
        ("17", "names no trial"),
        ("made/search/x", "names no trial"),
        ("made/serach/1", "Did you mean 'search'"),
    ],
)
def test_a_wrong_reference_is_explained(run: Run, done: str, reference: str, mistake: str) -> None:
    ran = run("recall", "why", reference)
    assert ran.code == 2
    assert mistake in ran.err


def test_an_invalidation_names_the_trials_that_used_the_result(run: Run, done: str) -> None:
    ran = run("recall", "invalidate", "--trial", f"{done}/search/1", "--reason", "the disk was full")
    assert ran.out.startswith("1 evaluation of 1 class will be served no more.")
    assert f"{done}/search/4" in ran.out
    assert "the disk was full" in run("recall", "why", f"{done}/search/4").out
    assert run("recall", "invalidate", "--reason", "x").code == 2
    assert run("recall", "invalidate", "--job", done, "--class", "1", "--reason", "x").code == 2
    assert run("recall", "invalidate", "--data", "nothing", "--reason", "x").code == 1


@pytest.fixture
def cells(make: Make, catalog: Catalog) -> str:
    """A finished job of two cells that ran without recall; its file says by what they would be compared."""
    job = make("cells")
    spec = copy.deepcopy(SPEC)
    spec["stages"][0]["recall"] = {"name": "exact"}
    with writing(catalog.engine) as session:
        session.execute(update(JobRow).where(JobRow.id == job.ledger.job_id).values(spec=spec))
    for number, last in enumerate(("none", "skip_connect")):
        made = Candidate({**CELL, "edge_2_3": last})
        [decision] = job.ledger.propose(job.stage, [Proposal(number, made, number)], None)
        assert isinstance(decision, Launch)
        values = {"accuracy": 0.5, "flops": 1.0}
        job.ledger.finish([Result(decision.trial_id, "finished", "", values, values, {"run": 2.0})])
    return job.end()


def test_two_trials_are_compared_as_their_stage_does_it(run: Run, cells: str) -> None:
    same = run("recall", "explain", f"{cells}/search/0", f"{cells}/search/0").out
    assert "share results: they are the same candidate" in same
    other = json.loads(run("recall", "explain", f"{cells}/0", f"{cells}/1", "--json").out)
    assert (other["equal"], other["tier"]) == (False, None)


def test_earlier_trials_are_imported_once(run: Run, cells: str, catalog: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    spec = copy.deepcopy(SPEC)
    spec["stages"][0]["recall"] = {"name": "exact"}
    file.write_text(yaml.safe_dump(spec))
    assert "2 finished trials" in run("recall", "import", str(file), "--from", cells).out
    with catalog.engine.connect() as connection:
        assert all(connection.scalars(select(TrialRow.class_id)))
    assert "0 are new" in run("recall", "import", str(file), "--from", cells).out
    spec["stages"][0]["program"]["epochs"] = 99
    file.write_text(yaml.safe_dump(spec))
    ran = run("recall", "import", str(file), "--from", cells)
    assert ran.code == 2
    assert "they differ in program" in ran.err


def test_a_job_without_recall_says_so(run: Run, done: str, catalog: Catalog) -> None:
    with writing(catalog.engine) as session:
        session.execute(update(StageRow).values(context=""))
    assert "No stage of job" in run("recall", "stats").out
