"""The report of a finished job: what it says, and files that a browser can show."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrate.storage.artifacts import file_digest
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.report import write_report
from orchestrate.storage.report.facts import read
from orchestrate.storage.report.plots import draw_sampler
from tests.storage.finished_job import Written, begin, write_all


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    with Catalog.open(str(tmp_path / "catalog.db")) as catalog:
        yield write_all(catalog, tmp_path)


def test_the_report_tells_result_failures_cost_and_origin(written: Written, tmp_path: Path) -> None:
    path, artifacts = write_report(written.catalog, written.job_id, tmp_path / "report")
    text = path.read_text(encoding="utf-8")
    for heading in ("## Result", "## Stages", "## Cost", "## Lineage", "## Run it again"):
        assert heading in text
    assert "the width" in text  # the cause of a failure
    assert "orchestrate-automl 0.1.0" in text
    assert "Seed: 7" in text
    assert {artifact.kind for artifact in artifacts} >= {
        "report/report.md",
        "report/pareto.svg",
        "report/pareto.html",
        "report/preferences.svg",
        "report/history.svg",
        "report/lineage.svg",
        "report/lineage.html",
    }
    for artifact in artifacts:
        assert file_digest(Path(artifact.uri)) == artifact.sha256
    for name in ("pareto.svg", "preferences.svg", "history.svg", "lineage.svg"):
        root = ET.parse(path.parent / name).getroot()
        assert root.tag.endswith("svg")
        assert sum(1 for _ in root.iter()) > 20


def test_the_report_of_a_job_that_never_got_going(tmp_path: Path) -> None:
    with Catalog.open(str(tmp_path / "catalog.db")) as catalog:
        started = begin(catalog, tmp_path)
        path, _ = write_report(
            catalog, started.job_id, tmp_path / "report", state="failed", reason="no nodes"
        )
    text = path.read_text(encoding="utf-8")
    assert "**failed**" in text
    assert "no nodes" in text


def test_the_sampler_s_own_metrics_are_drawn_in_groups(written: Written, tmp_path: Path) -> None:
    facts = read(written.catalog, written.job_id)
    path = tmp_path / "sampler.svg"
    assert not draw_sampler(facts, path)
    assert facts.search is not None
    del facts.search.__dict__["diagnostics"]
    facts.search.row.summary = {
        "diagnostics": [
            {
                "step": step,
                "at": "",
                "metrics": {
                    "loss": 1 / step,
                    "log_z/even": 2.0,
                    "log_z/accuracy": step,
                    "log_z/even_true": 2.5,
                },
            }
            for step in (20, 28, 36)
        ]
    }
    assert facts.search.diagnostics["loss"] == [(20, 1 / 20), (28, 1 / 28), (36, 1 / 36)]
    assert draw_sampler(facts, path)
    drawn = path.read_text(encoding="utf-8")
    for text in ("loss", "log_z", "even", "accuracy", "asks of stage search"):
        assert text in drawn
    assert "even_true" not in drawn  # a dashed line in the colour of what it is the truth of
    assert "stroke-dasharray" in drawn

    for name in ("diagnostics", "trained"):
        facts.search.__dict__.pop(name, None)
    facts.search.row.summary = {
        "diagnostics": [
            {"step": 64, "at": "", "metrics": {"loss": [[100, 2.0], [200, 1.0]], "fit/even": 0.9}}
        ]
    }
    assert facts.search.diagnostics == {"loss": [(100, 2.0), (200, 1.0)], "fit/even": [(64, 0.9)]}
    assert draw_sampler(facts, path)
    drawn = path.read_text(encoding="utf-8")
    assert "training steps" in drawn
    assert "asks of stage" not in drawn
    assert ">0.9<" in drawn  # a single value is a bar with its number


def test_each_stage_says_what_it_reached(written: Written, tmp_path: Path) -> None:
    facts = read(written.catalog, written.job_id)
    reached = {stage.name: stage.leading(facts.goals) for stage in facts.stages}
    assert reached["supernet"].keys() == {"accuracy"}  # it compares nothing: what its only trial reported
    for stage in facts.stages[1:]:
        assert reached[stage.name] == stage.front[0].values
    text = write_report(written.catalog, written.job_id, tmp_path / "report")[0].read_text(encoding="utf-8")
    rows = [line for line in text.partition("## Stages")[2].splitlines() if line.startswith("| search")]
    assert f"accuracy {reached['search']['accuracy']:.4g}" in rows[0]
