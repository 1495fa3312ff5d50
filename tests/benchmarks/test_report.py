"""The page shows the last results: each in its place, none left over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import report

ENTRY: dict[str, Any] = {
    "claim": "a | b",
    "metric": "ms",
    "value": 12.3,
    "spread": [11.0, 14.0],
    "seeds": 5,
    "peers": {"theirs": 20.0},
    "goal": "at most 20",
    "holds": False,
    "note": "p 0.20",
    "details": {},
    "command": "python benchmarks/speed.py",
    "versions": {"python": "3.11", "machine": "2 cores", "ray": "2.60"},
    "seconds": 300.0,
}
PAGE = "# Results\n\n<!-- speed -->\nold\n<!-- /speed -->\n\nWhat it means.\n"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (tmp_path / "speed.json").write_text(json.dumps([ENTRY]))
    return tmp_path


def test_a_table_replaces_the_last_one_and_nothing_else(results: Path) -> None:
    filled = report.fill(PAGE, results)
    assert filled.startswith("# Results\n\n<!-- speed -->\n")
    assert filled.endswith("<!-- /speed -->\n\nWhat it means.\n")
    assert "\nold\n" not in filled
    assert r"| a \| b | ms | 12.3 | 11.0 to 14.0 | 5 | 20.0 | at most 20 | does not hold; p 0.20 |" in filled
    assert "Took 5 min on 2 cores; ray 2.60." in filled
    assert report.fill(filled, results) == filled


@pytest.mark.parametrize("page", ["# Results\n", PAGE + "<!-- size -->\n<!-- /size -->\n"])
def test_results_and_places_must_match(results: Path, page: str) -> None:
    with pytest.raises(ValueError, match="the page has places for"):
        report.fill(page, results)


def test_a_place_needs_its_beginning(results: Path) -> None:
    with pytest.raises(ValueError, match="exactly one <!-- speed -->"):
        report.fill(PAGE.replace("<!-- speed -->\n", ""), results)


def test_the_page_is_up_to_date() -> None:
    page = report.PAGE.read_text(encoding="utf-8")
    assert report.fill(page, report.RESULTS) == page, "run python benchmarks/report.py"
