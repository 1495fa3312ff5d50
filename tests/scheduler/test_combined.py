"""A combined objective through a whole job: stopped by it, recalled, recorded for every trial."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrate.storage.catalog import Catalog
from tests.scheduler.conftest import PARTS, Submit, job_data

pytestmark = pytest.mark.ray

PREFERENCE = {
    "name": "scalarised",
    "weights": {"loss": 0.75, "price": 0.25},
    "bounds": {"loss": [2.0, 0.0], "price": [1.0, 0.0]},
    "method": "weighted-sum",
}
OBJECTIVES: list[dict[str, Any]] = [
    PREFERENCE,
    {"metric": "loss", "direction": "none"},
    {"name": f"{PARTS}:Price", "label": "price", "direction": "none"},
]


def preferred(values: dict[str, float]) -> float:
    return 0.75 * (1 - values["loss"] / 2) + 0.25 * (1 - values["price"])


def test_asha_serves_a_preference(run_job: Submit, catalog: Catalog) -> None:
    data = job_data(
        "bowl {sleep: 0.03, steps: 4}",
        16,
        job={"objectives": OBJECTIVES},
        early_stopping={"name": "asha", "max_steps": 4, "grace_steps": 1},
    )
    outcome, rows = run_job(data)
    assert outcome.state == "finished"
    assert {row.state for row in rows} == {"finished", "pruned"}
    for row in rows:
        assert row.values["scalarised"] == pytest.approx(preferred(row.values))
        assert row.values["price"] == row.candidate["x"]


def test_a_recalled_candidate_gets_its_value_anew(run_job: Submit) -> None:
    data = job_data(
        "counted",
        12,
        space="Three",
        recall={"name": "exact"},
        job={
            "objectives": [
                {**PREFERENCE, "weights": {"loss": 1}, "bounds": {"loss": [9, 0]}},
                {"metric": "loss", "direction": "none"},
            ]
        },
    )
    data["stages"][0]["program"]["folder"] = "/tmp"
    outcome, rows = run_job(data)
    assert outcome.state == "finished"
    assert {row.state for row in rows} == {"finished", "recalled"}
    for row in rows:
        assert row.values["scalarised"] == pytest.approx(1 - row.values["loss"] / 9)
