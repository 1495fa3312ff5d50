"""Workers that are gone for good: the others go on with a code of their own, and take them back."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch

from orchestrate.core import LostError
from orchestrate.core.testing import LocalWorkers
from orchestrate.plugins.gradient_coding.replay import replay
from orchestrate.plugins.gradient_coding.roster import arrange
from orchestrate.plugins.gradient_coding.session import Session
from tests.plugins.gradient_coding.test_session import strategy
from tests.plugins.gradient_coding.training import Classifier, alone, assert_same, together

PATIENT = 5.0


def opened(group: LocalWorkers, models: int, at: Mapping[int, Any], **options: Any) -> Session:
    """A session in which something happens before some rounds."""
    session = strategy(replace_after=PATIENT, **options).open(group, models)
    advance = session.advance

    def eventful() -> Any:
        if act := at.get(len(session.journal.rounds)):
            act()
        return advance()

    session.advance = eventful  # type: ignore[method-assign]
    return session


def places(session: Session) -> list[list[int]]:
    return [sorted(use.place) for use in session.journal.uses]


CASES: list[tuple[dict[str, Any], int, int]] = [
    ({"scheme": "uncoded"}, 1, 1),
    ({"stragglers": 1}, 1, 1),
    ({"stragglers": 3}, 1, 2),
    ({"scheme": "gc", "stragglers": 1}, 2, 2),
    ({"scheme": "gc-partial", "stragglers": 1}, 1, 1),
    ({"scheme": "sr-sgc", "distinct": 2}, 2, 2),
    ({"scheme": "m-sgc", "distinct": 2}, 2, 3),
]


@pytest.mark.parametrize(("options", "models", "gone"), CASES)
def test_those_that_are_left_go_on_and_take_others_back(
    options: dict[str, Any], models: int, gone: int
) -> None:
    group = LocalWorkers(4, seconds=lambda worker, number: 1.0)
    leave = {7 + worker: lambda worker=worker: group.withdraw(worker) for worker in range(gone)}
    come = {40 + worker: lambda worker=worker: group.restore(worker) for worker in range(gone)}
    session = opened(group, models, leave | come, **options)
    steps = 60 // models + 10
    found = together(session, range(models), [steps] * models)
    for model in range(models):
        assert_same(found[model], alone(model, steps), 1e-7 if options.get("scheme") == "gc" else 1e-10)
    everyone, left = [0, 1, 2, 3], list(range(gone, 4))
    seen = places(session)
    assert seen[0] == everyone
    assert left in seen
    assert everyone in seen[seen.index(left) :]
    assert not [step.difference for step in replay(session.journal) if step.difference]
    reasons = [use.reason for use in session.journal.uses]
    assert any(reason.startswith("no room for worker") for reason in reasons)
    assert any("back; asked for" in reason for reason in reasons)
    # The number of workers changes between jobs only: each has all its replies under one code.
    for use, after in pairwise([*session.journal.uses, None]):
        end = after.base if after else len(session.journal.rounds)
        rounds = session.journal.rounds[use.base : end]
        issued = {record.job for record in rounds if record.job is not None}
        assert issued == {one.job for record in rounds for one in record.decoded} | {
            job for record in rounds for job in (*record.dropped, *record.given_up)
        }


def test_a_round_that_waits_for_an_empty_place_begins_anew() -> None:
    group = LocalWorkers(4, seconds=lambda worker, number: 1.0)
    session = opened(group, 1, {7: lambda: group.withdraw(2)}, scheme="uncoded")
    found = together(session, [0], [20])
    assert_same(found[0], alone(0, 20), 1e-10)
    record = session.journal.rounds[7]
    assert (record.cause, record.dropped, record.decoded) == ("empty place", [8], [])
    assert PATIENT <= record.seconds < PATIENT + 3
    assert places(session) == [[0, 1, 2, 3], [0, 1, 3]]
    assert session.metrics()["workers/present"] == 3
    assert len(session.journal.rounds) == 21


def test_a_worker_that_is_soon_back_changes_nothing() -> None:
    group = LocalWorkers(4, seconds=lambda worker, number: 1.0)
    at = {7: lambda: group.withdraw(2), 10: lambda: group.restore(2)}
    session = opened(group, 1, at, stragglers=1)
    found = together(session, [0], [20])
    assert_same(found[0], alone(0, 20), 1e-10)
    assert places(session) == [[0, 1, 2, 3]]


def test_without_anybody_the_trial_waits_and_is_lost_in_the_end() -> None:
    group = LocalWorkers(2, seconds=lambda worker, number: 1.0)
    session = opened(group, 1, {}, scheme="uncoded")
    group.withdraw(0)
    group.withdraw(1)
    session.submit(0, Classifier(), torch.arange(20))
    with pytest.raises(LostError, match=r"no worker has had a process for 5. s"):
        session.advance()


@pytest.mark.usefixtures("virtual")
def test_auto_measures_anew_with_fewer_workers() -> None:
    group = LocalWorkers(4, seconds=lambda worker, number: 1.0)
    session = opened(group, 1, {20: lambda: group.withdraw(1)}, scheme="auto", probe=6, reselect=10)
    found = together(session, [0], [60])
    assert_same(found[0], alone(0, 60), 1e-10)
    uses = session.journal.uses
    first = next(index for index, use in enumerate(uses) if len(use.place) == 3)
    assert uses[first].reason.startswith("no room for worker 1; probe")
    assert [use.scheme["scheme"] for use in uses[first:]][:2] == ["uncoded", "gc-frc"]


def test_neighbours_in_the_code_sit_on_different_nodes() -> None:
    nodes = ["a", "a", "b", "b", "c", "c"]
    place = arrange(nodes, 0)
    assert sorted(place) == list(range(6))
    assert all(nodes[one] != nodes[other] for one, other in pairwise(place))


def test_a_process_for_an_empty_place_is_asked_for_again_and_again() -> None:
    """What was to start on a node that has died, unnoticed, never does."""
    asked: list[float] = []

    class Counting(LocalWorkers):
        def replace(self, worker: int) -> None:
            asked.append(self.now())
            super().replace(worker)

    group = Counting(4, seconds=lambda worker, number: 1.0)
    session = opened(group, 1, {7: lambda: group.withdraw(2)}, stragglers=1)
    together(session, [0], [60])
    between = [after - before for before, after in pairwise(asked)]
    assert len(asked) > 5
    assert all(PATIENT < seconds < PATIENT + 3 for seconds in between[1:])
