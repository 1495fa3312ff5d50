"""`list`, `status`, `show`, `logs`, `report`, `cancel`, `db` on catalogs that the ledger made."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from sqlalchemy import update

from orchestrate.cli import running
from orchestrate.core import JobEvent
from orchestrate.core.errors import ClusterError
from orchestrate.core.registry import Registry
from orchestrate.scheduler.driver import JobOutcome
from orchestrate.scheduler.settings import Settings
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.engine import writing
from orchestrate.storage.models import TrialRow
from tests.cli.conftest import Make, Run


def test_jobs_are_listed_newest_first(run: Run, make: Make, done: str) -> None:
    running = make("other").ledger.job_id
    rows = json.loads(run("list", "--json").out)
    assert [row["id"] for row in rows] == [running, done]
    assert {key: rows[1][key] for key in ("state", "trials", "recalled", "failed", "driver")} == {
        "state": "finished",
        "trials": 6,
        "recalled": 1,
        "failed": 1,
        "driver": "none",
    }
    assert rows[0]["driver"] == "alive"
    shown = run("list", "--state", "finished").out
    assert done in shown
    assert running not in shown
    assert len(json.loads(run("list", "-n", "1", "--json").out)) == 1


def test_an_empty_catalog_says_how_to_begin(run: Run, catalog: Catalog) -> None:
    assert "orchestrate submit" in run("list").out
    assert json.loads(run("list", "--json").out) == []
    ended = run("status")
    assert ended.code == 2
    assert "holds no job yet" in ended.err


def test_an_unknown_job_is_a_mistake_with_near_misses(run: Run, done: str) -> None:
    ended = run("show", f"{done[:-1]}_")
    assert ended.code == 2
    assert f"Did you mean '{done}'?" in ended.err


def test_status_of_a_running_job_says_who_runs_it(run: Run, make: Make) -> None:
    job = make()
    job.finish(0, 0.9, 1e6)
    data = json.loads(run("status", "--json").out)
    assert data["driver"] == "alive"
    assert data["stages"][0]["done"] == 1
    assert data["stages"][0]["planned"] == 6
    assert data["next"] == f"orchestrate logs {job.ledger.job_id} --follow"
    shown = run("status").out
    assert "Driver alive: there:1" in shown
    assert "1/6" in shown


def test_status_of_a_job_whose_driver_died_says_resume(run: Run, make: Make) -> None:
    job = make()
    job.ledger.release()  # as when the lease has run out
    shown = run("status").out
    assert "Driver gone" in shown
    assert f"orchestrate resume {job.ledger.job_id}" in shown
    assert "driver gone" in run("list").out


@pytest.mark.parametrize(
    ("state", "next_step"),
    [
        ("finished", "lineage sync"),
        ("failed", "logs"),
        ("interrupted", "resume"),
        ("cancelled", "lineage sync"),
    ],
)
def test_status_says_what_to_do_next(run: Run, make: Make, state: str, next_step: str) -> None:
    job = make()
    job.finish(0, 0.9, 1e6)
    job_id = job.end(state, "some reason")
    data = json.loads(run("status", job_id, "--json").out)
    assert data["next"] == f"orchestrate {next_step} {job_id}"
    assert data["lineage_backlog"] > 0
    assert "some reason" in run("status", job_id).out


def test_show_gives_counts_savings_front_and_cost(run: Run, done: str) -> None:
    data = json.loads(run("show", "--json").out)
    assert data["id"] == done
    assert data["trials"] == {"finished": 4, "recalled": 1, "failed": 1}
    assert [row["number"] for row in data["pareto"]] == [1, 0, 3]
    assert data["saved_seconds"] == pytest.approx(2.05)  # what trial 1 took
    assert data["seconds"]["search"]["run"] == pytest.approx(8.0)
    assert data["best"] == {"search": data["pareto"][0]["values"]}
    shown = run("show").out
    assert "6 trials: 4 finished, 1 recalled, 1 failed; recalling saved 2.0 s" in shown
    assert "Pareto front of stage search, 3 trials" in shown
    assert "op=conv1 depth=1" in shown
    assert "width" not in shown  # the same in all, so it tells nothing apart
    share = re.search(r"(\d+\.\d)%", shown)
    assert share
    assert 2.6 <= float(share[1]) < 30  # (0.001 + 0.002 + 0.05) of 2.053 s, and what was measured here


def test_the_front_fits_a_narrow_terminal(run: Run, done: str) -> None:
    shown = run("show", done, FORCE_COLOR="1", NO_COLOR="1", COLUMNS="60").out
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown)  # NO_COLOR: bold, but no colours
    shown = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    lines = shown.partition("Pareto front")[2].partition("Mean time")[0].splitlines()
    assert max(len(line) for line in lines) <= 60
    assert any("0.95" in line and "3 M" in line for line in lines)


def test_the_whole_front_and_every_trial(run: Run, done: str) -> None:
    assert [row["number"] for row in json.loads(run("show", "--pareto", "--json").out)] == [1, 0, 3]
    rows = json.loads(run("show", "--trials", "--json").out)
    assert [row["state"] for row in rows] == ["finished"] * 4 + ["recalled", "failed"]
    assert rows[4]["recalled_from"] == rows[1]["id"]
    shown = run("show", "--trials", "--stage", "search").out
    assert all(f"#{number}" in shown for number in range(6))
    assert "Did you mean 'search'" in run("show", "--trials", "--stage", "serch").err


def test_one_trial_in_full(run: Run, done: str) -> None:
    data = json.loads(run("show", "--trial", "1", "--json").out)
    assert data["values"] == {"accuracy": 0.95, "flops": 3e6}
    assert [report["step"] for report in data["reports"]] == [1, 2]
    assert [attempt["state"] for attempt in data["attempt_log"]] == ["finished"]
    assert f"from trial #1 of stage search, job {done}" in run("show", "--trial", "4").out
    failed = run("show", "--trial", "5").out
    assert "ValueError: no luck (x.py:7)" in failed
    assert f"orchestrate logs {done} --trial 5" in failed
    assert run("show", "--trial", "9").code == 2
    assert run("show", "--trial", "1", "--pareto").code == 2


def test_a_search_without_results_yet_says_so(run: Run, make: Make) -> None:
    job = make()
    job.fail(0, "at once")
    assert "no feasible finished trial yet" in run("show").out


def test_logs_tell_what_happened_with_tracebacks(run: Run, done: str) -> None:
    log = Settings().home / "logs" / f"{done}.log"
    log.parent.mkdir(parents=True)
    log.write_text("2020-01-01T00:00:00.000 INFO orchestrate: long ago\nmore of it\n", encoding="utf-8")
    lines = run("logs").out.splitlines()
    assert lines[0].endswith("driver INFO orchestrate: long ago")
    assert lines[1] == "  more of it"
    text = "\n".join(lines)
    assert f"job {done} created" in text
    assert "search #4 recalled" in text
    assert "    ValueError: no luck" in text
    assert lines[-1].endswith("job finished.")


def test_logs_of_one_trial(run: Run, done: str) -> None:
    text = run("logs", "--trial", "0").out
    assert "search #0 step 2: accuracy 0.9" in text
    assert "#1" not in text
    assert "driver" not in text


def test_following_ends_with_the_job(run: Run, done: str) -> None:
    assert run("logs", "--follow").out == run("logs").out


def test_a_job_without_a_driver_is_cancelled_here(run: Run, make: Make, catalog: Catalog) -> None:
    job = make()
    job.finish(0, 0.9, 1e6)
    job.ledger.release()
    ended = run("cancel", job.ledger.job_id)
    assert ended.code == 0
    assert "is cancelled" in ended.out
    assert catalog.job(job.ledger.job_id).state == "cancelled"


def test_cancelling_waits_only_so_long_for_a_living_driver(run: Run, make: Make, catalog: Catalog) -> None:
    job = make()
    ended = run("cancel", job.ledger.job_id, "--wait", "0.1")
    assert ended.code == 1
    assert "still running" in ended.out
    assert catalog.job(job.ledger.job_id).cancel_requested


def test_a_job_that_is_over_is_not_cancelled(run: Run, done: str) -> None:
    ended = run("cancel", done)
    assert ended.code == 1
    assert "is finished already" in ended.err


def test_the_report_is_written_and_its_path_printed(run: Run, done: str, tmp_path: Path) -> None:
    path = Path(run("report").out.strip())
    assert path.parent == Settings().home / "reports" / done
    assert "made" in path.read_text(encoding="utf-8")
    data = json.loads(run("report", done, "--output", "here", "--json").out)
    assert Path(data["report"]).parent == tmp_path / "here"
    assert "report/report.md" in data["files"]


def test_db_upgrade_makes_a_catalog_and_check_finds_it_sound(run: Run) -> None:
    assert run("db", "check").code == 1  # there is none
    assert "was at nothing" in run("db", "upgrade").out
    ended = run("db", "check")
    assert (ended.code, ended.out) == (0, "The catalog is sound.\n")


def test_db_check_finds_what_must_not_be(run: Run, done: str, catalog: Catalog) -> None:
    with writing(catalog.engine) as session:
        session.execute(update(TrialRow).where(TrialRow.number == 0).values(digest="0" * 32))
    ended = run("db", "check", "--json")
    assert ended.code == 1
    assert "digest" in json.loads(ended.out)[0]["problem"]
    assert "1 finding" in run("db", "check").out


def test_a_driver_that_can_not_go_on_says_how_to_resume(
    done: str, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = Registry([])

    def work() -> JobOutcome:
        registry.hook.job_started(event=JobEvent(done, "made", ("search",)))
        raise ClusterError("Ray went away")

    with pytest.raises(ClusterError):
        running.run(work, registry, Settings(), as_json=False, quiet=True)
    assert f"`orchestrate resume {done}`" in capsys.readouterr().err
