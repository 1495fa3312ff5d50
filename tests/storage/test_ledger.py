"""The write side: leases, states, and what is written together with them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import func, select

from orchestrate.core.errors import CatalogError, StaleLeaseError
from orchestrate.storage.artifacts import NewArtifact
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.check import check
from orchestrate.storage.ledger import DIAGNOSTICS, Infeasible, Launch, Ledger, Report
from orchestrate.storage.lineage.describe import diagnostic_points
from orchestrate.storage.models import ClaimRow, EvaluationRow, JobRow, OutboxRow
from tests.storage.conftest import POLICY, Driver, draft, proposal, result, started

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def count(catalog: Catalog, row: type) -> int:
    with catalog.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(row)) or 0


def outbox(catalog: Catalog) -> list[tuple[str, int | None]]:
    with catalog.engine.connect() as connection:
        query = select(OutboxRow.kind, OutboxRow.trial_id).order_by(OutboxRow.id)
        return [(row[0], row[1]) for row in connection.execute(query)]


@pytest.fixture(autouse=True)
def _consistent(request: pytest.FixtureRequest) -> Iterator[None]:
    catalog = request.getfixturevalue("catalog") if "catalog" in request.fixturenames else None
    yield
    if catalog is not None:
        assert check(catalog) == []


# Leases -------------------------------------------------------------------------------------------

WRITES: dict[str, Callable[[Driver, int], object]] = {
    "heartbeat": lambda d, t: d.ledger.heartbeat(),
    "start_job": lambda d, t: d.ledger.start_job(),
    "end_job": lambda d, t: d.ledger.end_job("finished"),
    "set_provenance": lambda d, t: d.ledger.set_provenance(commit="abc"),
    "start_stage": lambda d, t: d.ledger.start_stage(d.stage_id, "x"),
    "end_stage": lambda d, t: d.ledger.end_stage(d.stage_id, "failed"),
    "diagnose": lambda d, t: d.ledger.diagnose(d.stage_id, 1, {"loss": 1.0}),
    "propose": lambda d, t: d.ask(proposal(9)),
    "reconsider": lambda d, t: d.ledger.reconsider([t], POLICY),
    "report": lambda d, t: d.ledger.report([(t, Report(1, {"loss": 1.0}, NOW))]),
    "finish": lambda d, t: d.ledger.finish([result(t)]),
    "fail": lambda d, t: d.ledger.fail(t, "failed", {}, "why", retry=False),
    "interrupt": lambda d, t: d.ledger.interrupt([t], "why"),
    "cancel": lambda d, t: d.ledger.cancel([t], "why"),
    "tested": lambda d, t: d.ledger.tested(t, {"accuracy": 1.0}),
    "confirmed": lambda d, t: d.ledger.confirmed(t, {"accuracy": 1.0}),
    "open_memory": lambda d, t: d.ledger.open_memory(POLICY, {"data": {}}),
    "add_artifacts": lambda d, t: d.ledger.add_artifacts([NewArtifact("report", "/r", "0" * 64, 1)]),
}


def test_every_public_write_is_listed() -> None:
    public = {name for name in vars(Ledger) if not name.startswith("_")}
    assert public == WRITES.keys() | {"release"}


@pytest.mark.parametrize("name", WRITES)
def test_a_driver_that_lost_its_job_writes_nothing(driver: Driver, catalog: Catalog, name: str) -> None:
    trial_id = driver.launch(0, "k")
    driver.die()
    new = driver.revived()
    before = (outbox(catalog), catalog.job(driver.job_id).lease_expires_at, driver.events())
    with pytest.raises(StaleLeaseError, match=r"no longer this driver's.*next driver"):
        WRITES[name](driver, trial_id)
    driver.ledger.release()  # harmless: it isn't the new driver's lease that it lets go of
    assert (outbox(catalog), catalog.job(driver.job_id).lease_expires_at, driver.events()) == before
    assert new.ledger.heartbeat() is False


def test_a_lease_that_ran_out_but_wasnt_taken_goes_on(driver: Driver, catalog: Catalog) -> None:
    driver.die()
    assert not catalog.owned(driver.job_id)
    driver.ledger.heartbeat()
    assert catalog.owned(driver.job_id)
    driver.launch(0)


def test_a_heartbeat_prolongs_the_lease_on_the_databases_clock(catalog: Catalog) -> None:
    ledger = catalog.create_job(draft(), "me", 0.2)
    first = catalog.job(ledger.job_id).lease_expires_at
    ledger.heartbeat()
    second = catalog.job(ledger.job_id).lease_expires_at
    assert first is not None
    assert second is not None
    assert 0 < second - first < 5
    assert abs(second - datetime.now(UTC).timestamp()) < 5


def test_a_released_job_can_be_taken_at_once_and_no_longer_written(driver: Driver, catalog: Catalog) -> None:
    driver.ledger.release()
    with pytest.raises(StaleLeaseError):
        driver.ledger.heartbeat()
    assert catalog.take_job(driver.job_id, "you", 60).token == driver.ledger.token + 1


def test_a_new_driver_queues_again_what_ran(driver: Driver, catalog: Catalog) -> None:
    running, done = driver.launch(0, "a"), driver.launch(1, "b")
    driver.ledger.finish([result(done)])
    driver.ask(proposal(2, "a"))
    driver.die()
    new = driver.revived()
    assert catalog.counts(driver.stage_id) == {"queued": 2, "finished": 1}
    [attempt] = catalog.attempts(running)
    assert (attempt.state, new.trial(running).reason) == ("interrupted", "its driver was gone")
    assert attempt.ended_at is not None
    assert new.ledger.reconsider([running], POLICY) == [Launch(running, 2, "unknown so far")]
    assert [row.state for row in catalog.attempts(running)] == ["interrupted", "running"]
    assert new.events() == [("ask", 0), ("ask", 1), ("tell", 1), ("ask", 2)]


def test_heartbeats_and_writes_dont_lock_each_other_out(driver: Driver) -> None:
    errors: list[CatalogError] = []
    stop = threading.Event()

    def beat() -> None:
        while not stop.is_set():
            try:
                driver.ledger.heartbeat()
            except CatalogError as error:
                errors.append(error)

    thread = threading.Thread(target=beat)
    thread.start()
    for number in range(40):
        driver.ledger.finish([result(driver.launch(number))])
        driver.ledger.start_job()
    stop.set()
    thread.join()
    assert errors == []


# Jobs and stages ----------------------------------------------------------------------------------


def test_a_jobs_course(catalog: Catalog) -> None:
    ledger = catalog.create_job(draft(), "me", 60)
    job = catalog.job(ledger.job_id)
    assert (job.state, job.started_at, job.ended_at) == ("created", None, None)
    ledger.start_job()
    began = catalog.job(ledger.job_id).started_at
    ledger.set_provenance(commit="abc")
    ledger.end_job("interrupted", "Ctrl-C")
    job = catalog.job(ledger.job_id)
    assert (job.state, job.reason, job.provenance) == (
        "interrupted",
        "Ctrl-C",
        {"host": "here", "commit": "abc"},
    )
    ledger.start_job()
    job = catalog.job(ledger.job_id)
    assert (job.state, job.reason, job.started_at, job.ended_at) == ("running", "", began, None)
    ledger.end_job("failed")
    assert [kind for kind, _ in outbox(catalog)] == ["job_started", "job_ended"] * 2
    catalog.create_job(draft(), "me", 60)
    with pytest.raises(CatalogError, match=r"'finshed' is no state of a job. Did you mean 'finished'"):
        ledger.end_job("finshed")


def test_a_stages_course(driver: Driver, catalog: Catalog) -> None:
    trial_id = driver.launch(0)
    with pytest.raises(CatalogError, match=r"1 of its trials aren't over \(0\)"):
        driver.ledger.end_stage(driver.stage_id, "finished")
    driver.ledger.finish([result(trial_id)])
    driver.ledger.end_stage(driver.stage_id, "finished", "the budget is used up", {"best": 0.5})
    [stage] = catalog.stages(driver.job_id)
    assert (stage.state, stage.reason, stage.summary) == ("finished", "the budget is used up", {"best": 0.5})
    assert outbox(catalog)[-1] == ("stage_ended", None)


def test_a_samplers_own_metrics_are_kept_once_and_thinned(driver: Driver, catalog: Catalog) -> None:
    for step, loss in ((8, 2.0), (16, 1.0), (8, 9.0)):
        driver.ledger.diagnose(driver.stage_id, step, {"loss": loss})
    driver.ledger.end_stage(driver.stage_id, "failed", summary={"best": 0.5})
    [stage] = catalog.stages(driver.job_id)
    entries = stage.summary["diagnostics"]
    assert [(entry["step"], entry["metrics"]) for entry in entries] == [
        (8, {"loss": 2.0}),
        (16, {"loss": 1.0}),
    ]
    assert stage.summary["best"] == 0.5
    points = diagnostic_points(stage)
    assert [(point.name, point.value, point.step) for point in points] == [
        ("sampler/loss", 2.0, 8),
        ("sampler/loss", 1.0, 16),
    ]
    driver.ledger.diagnose(driver.stage_id, 17, {"log_z": [(50, 3.0), (100, 4.0)], "true": 4.5})
    [stage] = catalog.stages(driver.job_id)
    assert [(point.name, point.value, point.step) for point in diagnostic_points(stage)[2:]] == [
        ("sampler/log_z", 3.0, 50),
        ("sampler/log_z", 4.0, 100),
        ("sampler/true", 4.5, 17),
    ]
    for step in range(20, 20 + DIAGNOSTICS):
        driver.ledger.diagnose(driver.stage_id, step, {"loss": 0.0})
    [stage] = catalog.stages(driver.job_id)
    assert DIAGNOSTICS / 2 <= len(stage.summary["diagnostics"]) <= DIAGNOSTICS


def test_another_jobs_stages_and_trials_are_out_of_reach(driver: Driver, catalog: Catalog) -> None:
    other = started(catalog, "another")
    trial_id = driver.launch(0)
    with pytest.raises(CatalogError, match="has no stage of id"):
        other.ledger.propose(driver.stage_id, [proposal(1)], None)
    with pytest.raises(CatalogError, match="has no stage of id"):
        other.ledger.start_stage(driver.stage_id, "")
    with pytest.raises(CatalogError, match="has no trial of id"):
        other.ledger.finish([result(trial_id)])
    with pytest.raises(CatalogError, match="has no trial of id"):
        other.ledger.cancel([trial_id], "mine now")


# Trials -------------------------------------------------------------------------------------------


def test_a_finished_trial_leaves_everything_at_once(driver: Driver, catalog: Catalog) -> None:
    [decision] = driver.ask(proposal(0, "a", "b", flops=10.0))
    trial_id = decision.trial_id
    driver.ledger.report([(trial_id, Report(1, {"loss": 3.0}, NOW))])
    weights = NewArtifact("weights", "/w", "f" * 64, 2**40)
    reports = [Report(1, {"loss": 99.0}, NOW), Report(2, {"loss": 2.0}, NOW), Report(2, {"loss": 98.0}, NOW)]
    driver.ledger.finish([result(trial_id, artifacts=[weights], reports=reports, node="n1")])
    assert driver.trial(trial_id).values == {"flops": 10.0, "accuracy": 0.5}
    assert [(row.step, row.metrics, row.at) for row in catalog.reports(trial_id)] == [
        (1, {"loss": 3.0}, NOW),  # the first write counts
        (2, {"loss": 2.0}, NOW),
    ]
    [attempt] = catalog.attempts(trial_id)
    assert (attempt.number, attempt.state, attempt.node, attempt.error) == (1, "finished", "n1", None)
    [artifact] = catalog.artifacts(driver.job_id, trial_id=trial_id, kind="weights")
    assert (artifact.trial_id, artifact.sha256, artifact.size) == (trial_id, "f" * 64, 2**40)
    assert catalog.artifacts_of(trial_id) == [] or catalog.artifacts_of(trial_id)[0].id == artifact.id
    assert count(catalog, EvaluationRow) == 1
    assert count(catalog, ClaimRow) == 0
    assert outbox(catalog)[-2:] == [("trial_started", trial_id), ("trial_ended", trial_id)]
    assert driver.events() == [("ask", 0), ("tell", 0)]


@pytest.mark.parametrize("state", ["pruned", "failed", "lost", "cancelled"])
def test_only_finished_trials_can_be_recalled(driver: Driver, catalog: Catalog, state: str) -> None:
    trial_id = driver.launch(0, "k")
    if state == "pruned":
        driver.ledger.finish([result(trial_id, "pruned")])
    elif state == "cancelled":
        driver.ledger.cancel([trial_id], "not wanted")
    else:
        driver.ledger.fail(trial_id, state, {"type": "ValueError"}, "bad", retry=False)
    assert driver.trial(trial_id).state == state
    assert [row.state for row in catalog.attempts(trial_id)] == [state]
    assert (count(catalog, EvaluationRow), count(catalog, ClaimRow)) == (0, 0)
    assert driver.launch(1, "k") != trial_id


@pytest.mark.parametrize("state", ["finished", "failed", "cancelled", "recalled", "infeasible"])
def test_a_terminal_state_never_changes(driver: Driver, catalog: Catalog, state: str) -> None:
    trial_id = driver.launch(0, "k")
    if state == "cancelled":
        driver.ledger.cancel([trial_id], "")
    elif state == "failed":
        driver.ledger.fail(trial_id, "failed", {}, "", retry=False)
    else:
        driver.ledger.finish([result(trial_id)])
    if state == "recalled":
        trial_id = driver.ask(proposal(1, "k"))[0].trial_id
    elif state == "infeasible":
        trial_id = driver.ask(proposal(1, infeasible="too large"))[0].trial_id
    assert driver.trial(trial_id).state == state
    other = driver.launch(2)
    before = (outbox(catalog), driver.events())
    for late in (
        lambda: driver.ledger.finish([result(other), result(trial_id)]),
        lambda: driver.ledger.fail(trial_id, "lost", {}, "", retry=True),
        lambda: driver.ledger.report([(trial_id, Report(7, {}, NOW))]),
        lambda: driver.ledger.interrupt([trial_id], ""),
        lambda: driver.ledger.cancel([other, trial_id], ""),
        lambda: driver.ledger.reconsider([trial_id], None),
    ):
        with pytest.raises(CatalogError, match=f"is {state} already"):
            late()
    assert (outbox(catalog), driver.events()) == before  # nor was anything else of those lists written
    assert driver.trial(other).state == "running"


def test_a_retried_trial_keeps_its_claim_and_its_causes(driver: Driver, catalog: Catalog) -> None:
    trial_id = driver.launch(0, "k")
    error = {"type": "ValueError", "message": "nul \0 and \ud800", "traceback": "…", "frame": "f.py:3"}
    driver.ledger.fail(trial_id, "failed", error, "ValueError: nul \0 \ud800", retry=True)
    assert driver.trial(trial_id).state == "queued"
    assert driver.trial(trial_id).reason.startswith("attempt 1 failed: ValueError: nul \\0")
    assert count(catalog, ClaimRow) == 1
    driver.ledger.reconsider([trial_id], POLICY)
    driver.ledger.fail(trial_id, "lost", {"type": "LostError"}, "node died", retry=True)
    driver.ledger.reconsider([trial_id], None)
    driver.ledger.finish([result(trial_id)])
    attempts = catalog.attempts(trial_id)
    assert [(row.number, row.state) for row in attempts] == [(1, "failed"), (2, "lost"), (3, "finished")]
    assert attempts[0].error == error
    assert driver.events() == [("ask", 0), ("tell", 0)]


def test_only_running_trials_finish_and_only_queued_ones_start(driver: Driver) -> None:
    trial_id = driver.launch(0)
    with pytest.raises(CatalogError, match="is running, not queued"):
        driver.ledger.reconsider([trial_id], None)
    driver.ledger.interrupt([trial_id], "Ctrl-C")
    for late in (
        lambda: driver.ledger.finish([result(trial_id)]),
        lambda: driver.ledger.fail(trial_id, "failed", {}, "", retry=False),
        lambda: driver.ledger.interrupt([trial_id], ""),
    ):
        with pytest.raises(CatalogError, match="is queued, not running"):
            late()
    with pytest.raises(CatalogError, match="stands twice"):
        driver.ledger.cancel([trial_id, trial_id], "")


def test_a_broken_bound_ends_the_trial_before_it_starts(driver: Driver, catalog: Catalog) -> None:
    decisions = driver.ask(proposal(0, "k", infeasible="flops 9 > 5", flops=9.0), proposal(1, "k"))
    row = driver.trial(decisions[0].trial_id)
    assert decisions[0] == Infeasible(row.id, "flops 9 > 5")
    assert (row.state, row.reason, row.values, row.attempts) == (
        "infeasible",
        "flops 9 > 5",
        {"flops": 9.0},
        0,
    )
    assert isinstance(decisions[1], Launch)  # it holds no claim
    assert driver.events() == [("ask", 0), ("ask", 1), ("tell", 0)]
    assert catalog.attempts(row.id) == []


def test_numbers_are_given_once(driver: Driver, catalog: Catalog) -> None:
    driver.launch(0)
    with pytest.raises(CatalogError, match=r"(?i)unique"):
        driver.ask(proposal(1), proposal(0))
    assert len(catalog.trials(driver.job_id)) == 1


def test_values_that_are_no_numbers_dont_get_in(driver: Driver) -> None:
    trial_id = driver.launch(0)
    with pytest.raises(CatalogError, match="can't keep a value"):
        driver.ledger.finish([result(trial_id, accuracy=float("nan"))])
    with pytest.raises(CatalogError, match="no zone"):
        driver.ledger.report([(trial_id, Report(1, {}, NOW.replace(tzinfo=None)))])
    assert driver.trial(trial_id).state == "running"


def test_times_are_utc_whatever_came_in(driver: Driver, catalog: Catalog) -> None:
    trial_id = driver.launch(0)
    abroad = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    driver.ledger.report([(trial_id, Report(1, {}, abroad))])
    [report] = catalog.reports(trial_id)
    assert report.at == NOW
    assert report.at.tzinfo is UTC


def test_test_scores_are_written_once(driver: Driver, catalog: Catalog) -> None:
    trial_id = driver.launch(0)
    with pytest.raises(CatalogError, match="is running, not finished or recalled"):
        driver.ledger.tested(trial_id, {"accuracy": 0.9})
    driver.ledger.finish([result(trial_id)])
    driver.ledger.tested(trial_id, {"accuracy": 0.9})
    driver.ledger.tested(trial_id, {"accuracy": 0.95})
    assert driver.trial(trial_id).test == {"accuracy": 0.9}
    assert outbox(catalog).count(("trial_tested", trial_id)) == 1


def test_a_jobs_own_files_are_replaced_by_kind(driver: Driver, catalog: Catalog) -> None:
    driver.ledger.add_artifacts(
        [NewArtifact("report", "/1", "1" * 64, 1), NewArtifact("plot", "/2", "2" * 64, 1)]
    )
    driver.ledger.add_artifacts([NewArtifact("report", "/3", "3" * 64, 1)])
    assert {row.kind: row.uri for row in catalog.artifacts(driver.job_id)} == {"report": "/3", "plot": "/2"}


def test_empty_lists_are_nothing_to_do(driver: Driver, catalog: Catalog) -> None:
    assert driver.ask() == driver.ledger.reconsider([], None) == []
    driver.ledger.finish([])
    driver.ledger.cancel([], "")
    driver.ledger.interrupt([], "")
    driver.ledger.add_artifacts([])
    assert len(outbox(catalog)) == 2


def test_a_commit_survives_and_a_failed_change_leaves_nothing(tmp_path: Path) -> None:
    with Catalog.open(str(tmp_path / "c.db")) as catalog:
        driver = started(catalog)
        trial_id = driver.launch(0, "k")
        broken = NewArtifact("weights", "/w", None, 1)  # type: ignore[arg-type]
        with pytest.raises(CatalogError, match="NOT NULL"):
            driver.ledger.finish([result(trial_id, reports=[Report(1, {}, NOW)], artifacts=[broken])])
        assert catalog.reports(trial_id) == []
        assert driver.events() == [("ask", 0)]
        driver.ledger.finish([result(trial_id)])
    with Catalog.open(str(tmp_path / "c.db"), create=False) as again:
        assert again.trial(trial_id).state == "finished"


def test_a_change_takes_few_statements_whatever_the_lists_length(driver: Driver, catalog: Catalog) -> None:
    from sqlalchemy import event

    def statements(first: int, length: int) -> int:
        seen = 0

        def note(*_: object) -> None:
            nonlocal seen
            seen += 1

        event.listen(catalog.engine, "before_cursor_execute", note)
        decisions = driver.ask(*(proposal(first + i, f"k{first + i}") for i in range(length)))
        driver.ledger.finish([result(decision.trial_id) for decision in decisions])
        event.remove(catalog.engine, "before_cursor_execute", note)
        return seen

    one, many = statements(0, 1), statements(1, 50)
    assert one <= 24
    assert many <= one + 2


def test_the_lease_isnt_held_by_the_row_alone(catalog: Catalog, driver: Driver) -> None:
    assert catalog.owned(driver.job_id)
    with catalog.engine.connect() as connection:
        owner = connection.scalar(select(JobRow.lease_owner).where(JobRow.id == driver.job_id))
    assert owner == "first driver"
