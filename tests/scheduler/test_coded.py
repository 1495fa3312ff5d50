"""Gradient coding on Ray: jobs, and workers that die or stop in the middle of a training."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrate.core import Learner
from orchestrate.plugins.gradient_coding.records import Journal
from orchestrate.plugins.gradient_coding.replay import replay
from orchestrate.plugins.gradient_coding.session import Session
from orchestrate.plugins.gradient_coding.strategy import GradientCodingOptions, GradientCodingStrategy
from orchestrate.scheduler.settings import Settings
from orchestrate.scheduler.workers import RayWorkerGroup
from tests.plugins.gradient_coding.training import Classifier, alone, assert_same, together, train, weights
from tests.scheduler import parts
from tests.scheduler.conftest import Submit, assert_steady, job_data

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

STEPS = 50


def strategy(**options: Any) -> GradientCodingStrategy:
    return GradientCodingStrategy(GradientCodingOptions(**options))


@pytest.fixture(scope="module")
def group(ray_cluster: str) -> Iterator[RayWorkerGroup]:
    group = RayWorkerGroup(4, 0, 0)
    yield group
    group.close()


def pids(group: RayWorkerGroup) -> list[int]:
    """Each worker's process, once all have started."""
    replies = {reply.worker: reply for reply in group.map(parts.process, [None] * group.size)}
    assert [reply.error for reply in replies.values()] == [None] * group.size
    return [replies[worker].value for worker in range(group.size)]


def test_a_task_answers_part_by_part_until_it_is_given_up(group: RayWorkerGroup) -> None:
    group.send(1, parts.by_parts, 2, ticket="one")
    group.send(2, parts.by_parts, 0, ticket="other")
    replies = [group.receive(timeout=60) for _ in range(3)]
    told = {(one.worker, one.value, one.ticket, one.last) for one in replies if one is not None}
    assert told == {(1, 0, "one", False), (1, 1, "one", False), (2, "all", "other", True)}
    group.send(1, parts.by_parts, 0, ticket="next")  # waits for the one before
    assert group.receive(timeout=0.1) is None
    group.send(1, parts.by_parts, 0, ticket="newer")
    group.cancel([1])  # and what waits is forgotten
    reply = group.receive(timeout=60)
    assert reply is not None
    assert (reply.worker, reply.cause, reply.ticket, reply.last) == (1, "cancelled", "one", True)
    group.send(1, parts.by_parts, 0, ticket="after")
    reply = group.receive(timeout=60)
    assert reply is not None
    assert (reply.value, reply.ticket) == ("all", "after")


def test_a_training_outlives_workers_that_die_or_stop(group: RayWorkerGroup) -> None:
    processes = pids(group)
    session = strategy(stragglers=1, inject={"p_slow": 0.3, "seconds": 0.2}).open(group, 1)
    victim, stopped = session._place[0], session._place[2]
    steps = iter(range(STEPS))

    def gradient(learner: Learner, samples: torch.Tensor) -> float:
        step = next(steps)
        if step == 10:
            os.kill(processes[victim], signal.SIGKILL)
        elif step == 20:
            os.kill(processes[stopped], signal.SIGSTOP)
        elif step == 35:
            os.kill(processes[stopped], signal.SIGCONT)
        session.submit(0, learner, samples)
        ((_, result),) = session.advance()
        assert isinstance(result, float)
        return result

    learner = Classifier(4)
    losses = train(learner, gradient, 4, STEPS)
    assert_same((losses, weights(learner)), alone(4, STEPS), 1e-10)
    rounds = session.journal.rounds
    assert [worker for record in rounds for worker in record.replaced] == [victim]
    assert all(stopped in record.stragglers for record in rounds[20:35])
    assert not all(stopped in record.stragglers for record in rounds[36:])


def test_networks_by_turns_outlive_a_dead_worker(group: RayWorkerGroup) -> None:
    processes = pids(group)
    chosen = strategy(scheme="m-sgc", distinct=2, inject={"p_slow": 0.2, "seconds": 0.3})
    session = Killing(chosen.open(group, 2), at=12, process=processes[1])
    found = together(session, [1, 2], [30, 22])
    assert_same(found[1], alone(1, 30), 1e-10)
    assert_same(found[2], alone(2, 22), 1e-10)
    assert session.metrics()["workers/replaced"] == 1


class Killing:
    """A session in which a process is killed before a round."""

    def __init__(self, session: Session, at: int, process: int) -> None:
        self._session, self._at, self._process = session, at, process

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def advance(self) -> Any:
        if len(self._session.journal.rounds) == self._at:
            os.kill(self._process, signal.SIGKILL)
        return self._session.advance()


def test_a_job_trains_by_turns_what_it_trains_alone(
    run_job: Submit, settings: Settings, tmp_path: Path
) -> None:
    coding = {"name": "gradient-coding", "scheme": "sr-sgc", "distinct": 1}
    workers = {"count": 3, "strategy": coding}
    outcome, rows = run_job(job_data("steady", 3, workers=workers, batch=2, resources={"cpu": 0.5}))
    assert outcome.state == "finished", outcome.reason
    for row in rows:
        assert_steady(row, tmp_path)
    (path,) = Path(settings.home, "artifacts").rglob("search/000000/**/rounds.jsonl")
    assert "artifacts" in path.parts[-3:]  # what was written as rounds went on is gone: this has it all
    journal = Journal.read(path)
    assert {use.scheme["scheme"] for use in journal.uses} == {"sr-sgc", "gc-frc"}
    assert not [step.difference for step in replay(journal) if step.difference]


def test_members_of_a_launch_are_stopped_early_by_themselves(run_job: Submit) -> None:
    workers = {"count": 2, "strategy": {"name": "gradient-coding"}}
    stopping = {"name": "asha", "max_steps": 9, "grace_steps": 1, "reduction_factor": 2}
    outcome, rows = run_job(
        job_data("steady", 6, workers=workers, batch=3, early_stopping=stopping, resources={"cpu": 0.5})
    )
    assert outcome.state == "finished", outcome.reason
    states = [row.state for row in rows]
    assert states.count("pruned") >= 1
    assert states.count("finished") >= 1
    assert all("stopped early at step" in row.reason for row in rows if row.state == "pruned")


def test_islands_train_what_one_process_trains_and_outlive_one_of_their_processes() -> None:
    group = RayWorkerGroup(3, 0, 0, processes=2)
    try:
        processes = {reply.worker: reply.value for reply in group.map(parts.processes, [None] * 3)}
        assert len({pid for pids in processes.values() for pid in pids}) == 6
        session = strategy(stragglers=1, inject={"p_slow": 0.2, "seconds": 0.3}).open(group, 1)
        killed = Killing(session, at=8, process=processes[2][1])
        found = together(killed, [4], [30])
        assert_same(found[4], alone(4, 30), 1e-10)
        rounds = session.journal.rounds
        assert [worker for record in rounds for worker in record.replaced] == [2]
        assert sum(bool(record.stragglers) for record in rounds) > 3  # who gave up could go on
        again = {reply.worker: reply.value for reply in group.map(parts.processes, [None] * 3)}
        assert again[0] == processes[0]
        assert not {*again[2]} & {*processes[2]}
    finally:
        group.close()


def test_a_job_s_workers_may_be_islands(run_job: Submit, tmp_path: Path) -> None:
    workers = {"count": 2, "processes": 2, "strategy": {"name": "gradient-coding"}}
    outcome, rows = run_job(job_data("steady", 1, workers=workers, resources={"cpu": 0.4}))
    assert outcome.state == "finished", outcome.reason
    assert_steady(rows[0], tmp_path)
