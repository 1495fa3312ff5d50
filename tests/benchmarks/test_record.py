"""What a benchmark's command line means, and what its JSON holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import _record
import pytest
from _record import Record, Run, number, rows

KEYS = {
    *("claim", "metric", "value", "spread", "seeds", "peers", "goal", "holds", "note", "details"),
    *("command", "versions", "seconds"),
}
RECORD = Record("ours is quick", "ms", 12.3, (11.0, 14.0), 5, {"theirs": 20.0}, "at most 20", holds=True)


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setattr(_record, "RESULTS", tmp_path / "results")

    def parse(*arguments: str) -> Run:
        monkeypatch.setattr("sys.argv", ["speed.py", *arguments])
        return Run.from_command_line(
            "speed.py", "About.", {"smoke": 1, "default": 5, "full": 20}, ("one", "two")
        )

    return parse


def test_sizes_have_their_seeds(command_line: Any) -> None:
    assert [command_line(*size).seeds for size in ([], ["--smoke"], ["--full"])] == [5, 1, 20]
    assert command_line("--full", "--seeds", "3").seeds == 3


def test_parts_may_be_named(command_line: Any) -> None:
    assert command_line().only == ()
    assert command_line("--only", "two").only == ("two",)


@pytest.mark.parametrize("wrong", [["--full", "--smoke"], ["--seeds", "0"], ["--only", "three"]])
def test_wrong_arguments_are_refused(command_line: Any, wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        command_line(*wrong)


def test_records_are_written_where_the_page_looks(command_line: Any, capsys: Any) -> None:
    command_line("--seeds", "4").publish([RECORD])
    (entry,) = json.loads((_record.RESULTS / "speed.json").read_text())
    assert entry.keys() == KEYS
    assert (entry["value"], entry["spread"], entry["peers"]) == (12.3, [11.0, 14.0], {"theirs": 20.0})
    assert entry["command"] == "python benchmarks/speed.py --seeds 4"
    assert {"python", "machine", "numpy"} <= entry["versions"].keys()
    shown = capsys.readouterr().out
    assert "ours is quick" in shown
    assert "20.0" in shown


@pytest.mark.parametrize("where", [["--json", "out/a.json"], ["--json=out/a.json"]])
def test_where_it_was_written_is_not_part_of_the_command(command_line: Any, where: list[str]) -> None:
    command_line("--smoke", *where).publish([RECORD])
    (entry,) = json.loads(Path("out/a.json").read_text())
    assert entry["command"] == "python benchmarks/speed.py --smoke"


def test_a_smoke_run_never_replaces_results(command_line: Any) -> None:
    command_line("--smoke").publish([RECORD])
    assert not _record.RESULTS.exists()


def test_a_number_that_is_none_is_refused(command_line: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        command_line().publish([Record("nothing", "ms", float("nan"), (0, 0), 1)])


def test_each_peer_has_its_column() -> None:
    headings, lines = rows([RECORD, Record("more", "s", 1, (1, 1), 5, {"others": 2})])
    assert headings[5:7] == ["theirs", "others"]
    assert [line[5:7] for line in lines] == [["20.0", ""], ["", "2.00"]]
    assert lines[0][-1] == "holds"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.07213, "0.0721"), (12.345, "12.3"), (150.2, "150"), (12345.6, "12,346"), (0, "0.00")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_a_part_that_is_run_again_leaves_the_others(command_line: Any) -> None:
    others = [Record(claim, "ms", 1, (1, 1), 5) for claim in ("first", "last")]
    command_line().publish([others[0], RECORD, others[1]])
    again = Record(RECORD.claim, "ms", 7.0, (7, 7), 5)
    command_line("--only", "two").publish([again])
    written = json.loads((_record.RESULTS / "speed.json").read_text())
    assert [entry["claim"] for entry in written] == ["first", RECORD.claim, "last"]
    assert [entry["value"] for entry in written] == [1, 7.0, 1]
    assert written[1]["command"] != written[0]["command"]
