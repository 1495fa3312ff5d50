"""Journals: written, read, replayed and drawn; and a journal that doesn't add up."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from orchestrate.core.errors import ArtifactError, SpecError
from orchestrate.core.testing import LocalWorkers
from orchestrate.plugins.gradient_coding.commands import app
from orchestrate.plugins.gradient_coding.commands.replay import _find
from orchestrate.plugins.gradient_coding.records import Journal, Round
from orchestrate.plugins.gradient_coding.replay import profile, rebuild, replay
from orchestrate.plugins.gradient_coding.session import Session
from orchestrate.plugins.gradient_coding.strategy import GradientCodingOptions, GradientCodingStrategy
from tests.plugins.gradient_coding.test_session import adversary
from tests.plugins.gradient_coding.training import together

SCHEMES: list[tuple[dict[str, Any], int]] = [
    ({"scheme": "m-sgc", "burst": 2, "window": 3, "distinct": 2}, 4),
    ({"scheme": "sr-sgc", "burst": 1, "window": 2, "distinct": 2}, 2),
    ({"scheme": "gc", "stragglers": 1, "code": "mds"}, 2),
    ({"scheme": "gc", "stragglers": 2, "seed": 7}, 1),
]


def session(options: dict[str, Any], models: int, steps: int = 12) -> Session:
    strategy = GradientCodingStrategy(GradientCodingOptions(**options))
    made = strategy.open(LocalWorkers(6, seconds=adversary(6, 1, 5), deaf=range(3)), models)
    together(made, range(models), [steps - seed for seed in range(models)])
    return made


@pytest.mark.parametrize(("options", "models"), SCHEMES)
def test_a_journal_replays_to_the_same_decodings(
    options: dict[str, Any], models: int, tmp_path: Path
) -> None:
    made = session(options, models)
    files = made.artifacts(tmp_path)
    journal = Journal.read(files["rounds"])
    assert journal.rounds == made.journal.rounds
    assert [step.difference for step in replay(journal)] == [""] * len(journal.rounds)
    assert files["rounds-picture"].read_text(encoding="utf-8").count("<svg") == 1
    told = made.metrics()
    assert told["workers/rounds"] == len(journal.rounds)
    assert told["workers/straggler_share"] == pytest.approx(journal.pattern.mean())
    times = profile(journal, slope=1.0)
    assert times.n == 6
    assert np.isfinite(times.seconds).all()


def test_a_changed_mask_is_found() -> None:
    journal = session(*SCHEMES[1]).journal
    index, record = next(
        (index, entry)
        for index, entry in enumerate(journal.entries)
        if isinstance(entry, Round) and entry.stragglers
    )
    arrivals = [0.5 if time is None else time for time in record.arrivals]
    journal.entries[index] = replace(record, arrivals=arrivals)
    found = [step for step in replay(journal) if step.difference]
    assert found[0].record.number == record.number
    assert "stragglers are" in found[0].difference


def test_the_code_is_made_again_from_its_seed() -> None:
    made = session(*SCHEMES[3])
    (use,) = made.journal.uses
    assert use.scheme["code"]["seed"] == 7
    assert sorted(use.place) == list(range(6))
    assert rebuild(use).code.matrix.tobytes() == made.scheme.code.matrix.tobytes()
    assert rebuild(session({"scheme": "gc", "stragglers": 2}, 1).journal.uses[0]).code.matrix.tobytes() != (
        made.scheme.code.matrix.tobytes()
    )
    use.scheme["code"]["digest"] = "0" * 16  # as if it had been made elsewhere
    first, *others = replay(made.journal)
    assert "another version of NumPy" in first.difference
    assert not [step.difference for step in others if step.difference]


def test_a_round_that_can_t_end_is_where_a_replay_ends() -> None:
    journal = session(*SCHEMES[3]).journal
    journal.entries[3] = replace(journal.entries[3], arrivals=[None] * 6)
    found = [step.difference for step in replay(journal)]
    assert found[2] == "the round may not close with these replies"
    assert set(found[3:]) == {"not replayed: a round before it could not end"}


def test_the_command_replays_a_job_s_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ".orchestrate/artifacts/job-1/search/000002/artifacts/rounds"
    folder.mkdir(parents=True)
    made = session(*SCHEMES[0])
    made.journal.write(folder / "rounds.jsonl")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(
        app, ["replay", "job-1", "--trial", "2", "--json", "--plot", "r.png", "--profile", "t.csv"]
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["identical"]
    assert told["schemes"][0]["scheme"] == "m-sgc"
    assert Path("r.png").stat().st_size > 1000
    assert Path("t.csv").read_text(encoding="utf-8").startswith("round,worker,load,seconds")
    shown = CliRunner().invoke(app, ["replay", "job-1"])
    assert "all as recorded" in shown.output
    with pytest.raises(SpecError, match=r"no rounds\.jsonl under"):
        _find("job-2", None)


def test_another_file_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "other").write_text('{"a": 1}\n', encoding="utf-8")
    with pytest.raises(ArtifactError, match="no journal"):
        Journal.read(tmp_path / "other")


def test_rounds_are_written_down_as_they_happen(tmp_path: Path) -> None:
    strategy = GradientCodingStrategy(GradientCodingOptions(scheme="m-sgc", distinct=2))
    made = strategy.open(LocalWorkers(4), 2)
    made.keep([tmp_path / "one", tmp_path / "other"])
    together(made, [0, 1], [5, 4])
    for folder in ("one", "other"):
        journal = Journal.read(tmp_path / folder / "rounds.jsonl")
        assert journal.entries == made.journal.entries


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.plugins.gradient_coding.test_records import SCHEMES, GradientCodingOptions, GradientCodingStrategy
from tests.plugins.gradient_coding.test_records import LocalWorkers, adversary, together

strategy = GradientCodingStrategy(GradientCodingOptions(**SCHEMES[0][0]))
session = strategy.open(LocalWorkers(6, seconds=adversary(6, 1, 5)), 4)
session.keep([Path(sys.argv[1])])
advance = session.advance

def until() -> object:
    if len(session.journal.rounds) == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return advance()

session.advance = until
together(session, range(4), [12] * 4)
"""


def test_the_rounds_of_a_killed_process_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ".orchestrate/artifacts/job-1/search/000002"
    command = [sys.executable, "-c", KILLED, str(folder / "rounds-10")]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], check=False)
    assert done.returncode == -signal.SIGKILL
    made = session(*SCHEMES[1])
    made.keep([folder / "rounds-9"])  # an earlier attempt
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["replay", "job-1", "--json"])
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.output)
    assert told["journal"].endswith("rounds-10/rounds.jsonl")
    assert (told["rounds"], told["identical"]) == (9, True)


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    made = session(*SCHEMES[1])
    path = tmp_path / "rounds.jsonl"
    made.journal.write(path)
    path.write_bytes(path.read_bytes()[:-20])
    assert Journal.read(path).rounds == made.journal.rounds[:-1]
    path.write_text("", encoding="utf-8")
    with pytest.raises(ArtifactError, match="holds no round"):
        Journal.read(path)


def test_a_full_disk_ends_the_record_and_not_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    strategy = GradientCodingStrategy(GradientCodingOptions())
    made = strategy.open(LocalWorkers(4), 1)
    made.keep([tmp_path / "folder"])
    (tmp_path / "folder" / "rounds.jsonl").unlink()
    (tmp_path / "folder" / "rounds.jsonl").mkdir()
    together(made, [0], [3])
    assert len(made.journal.rounds) == 3
    assert "no longer written down" in caplog.text
