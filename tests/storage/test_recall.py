"""Decisions: launch, recall, wait, take over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from orchestrate.core.errors import CatalogError
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.check import check
from orchestrate.storage.ledger import Launch, Recall, Wait
from tests.storage.conftest import CONTEXT, OWN, POLICY, Driver, proposal, result, started


@pytest.fixture(autouse=True)
def _consistent(catalog: Catalog) -> Iterator[None]:
    yield
    assert check(catalog) == []


def test_an_equal_candidate_is_answered_from_the_first(driver: Driver) -> None:
    first = driver.launch(0, "k")
    driver.ledger.finish([result(first, accuracy=0.9)])
    [decision] = driver.ask(proposal(1, "k", flops=3.0))
    assert isinstance(decision, Recall)
    assert (decision.source_id, decision.tier) == (first, "functional")
    assert decision.values == {"accuracy": 0.9, "flops": 3.0}
    row = driver.trial(decision.trial_id)
    assert (row.state, row.recalled_from, row.attempts) == ("recalled", first, 0)
    assert (row.values, row.metrics) == (decision.values, {"accuracy": 0.9, "loss": 1.0})
    assert row.reason == f"functional match with trial id {first} of job {driver.job_id}"
    assert driver.events() == [("ask", 0), ("tell", 0), ("ask", 1), ("tell", 1)]


def test_the_source_is_always_the_trial_that_ran(driver: Driver) -> None:
    first = driver.launch(0, "k")
    driver.ledger.finish([result(first)])
    second = driver.ask(proposal(1, "k"))[0].trial_id
    third = driver.ask(proposal(2, "k"))[0].trial_id
    assert driver.trial(second).recalled_from == driver.trial(third).recalled_from == first


def test_own_static_values_win_and_others_arent_served(driver: Driver) -> None:
    first = driver.launch(0, "k")
    scored = {"accuracy": 0.5, "latency": 9.0, "flops": 1.0}
    driver.ledger.finish([replace(result(first), values=scored)])
    policy = replace(POLICY, shared=frozenset({"accuracy", "flops"}))
    [decision] = driver.ask(proposal(1, "k", flops=2.0), recall=policy)
    assert isinstance(decision, Recall)
    assert decision.values == {"accuracy": 0.5, "flops": 2.0}


def test_a_result_without_a_wanted_value_doesnt_answer(driver: Driver) -> None:
    driver.ledger.finish([result(driver.launch(0, "k"))])
    policy = replace(POLICY, shared=frozenset({"accuracy", "latency"}))
    [decision] = driver.ask(proposal(1, "k"), recall=policy)
    assert isinstance(decision, Launch)
    both = {"accuracy": 0.7, "latency": 9.0}
    driver.ledger.finish([replace(result(decision.trial_id), values=both)])
    [answered] = driver.ask(proposal(2, "k"), recall=policy)
    assert isinstance(answered, Recall)
    assert (answered.source_id, answered.values) == (decision.trial_id, both)


def test_the_cheapest_tier_that_is_known_answers(driver: Driver) -> None:
    for number, key in enumerate(("exact", "structural")):
        driver.ledger.finish([result(driver.launch(number, key), accuracy=number / 10)])
    [decision] = driver.ask(proposal(2, "exact", "structural"))
    assert isinstance(decision, Recall)
    assert decision.values == {"accuracy": 0.0}
    [decision] = driver.ask(proposal(3, "new", "structural"))
    assert isinstance(decision, Recall)
    assert decision.values == {"accuracy": 0.1}


def test_the_first_result_answers_for_ever(driver: Driver) -> None:
    first = driver.launch(0, "k")
    driver.ledger.finish([result(first, accuracy=0.1)])
    [again] = driver.ask(proposal(1, "k"), recall=None)  # without recall it runs
    assert isinstance(again, Launch)
    driver.ledger.finish([result(again.trial_id, accuracy=0.2)])
    [decision] = driver.ask(proposal(2, "k"))
    assert isinstance(decision, Recall)
    assert decision.source_id == first


def test_of_two_equal_proposals_in_a_list_the_second_waits(driver: Driver) -> None:
    one, two, three = driver.ask(proposal(0, "k"), proposal(1, "k"), proposal(2))
    assert isinstance(one, Launch)
    assert isinstance(two, Wait)
    assert isinstance(three, Launch)
    assert two.holder_id == one.trial_id
    row = driver.trial(two.trial_id)
    assert (row.state, row.waits_for, row.attempts) == ("queued", one.trial_id, 0)
    assert driver.ledger.reconsider([two.trial_id], POLICY) == [two]
    driver.ledger.finish([result(one.trial_id)])
    [decision] = driver.ledger.reconsider([two.trial_id], POLICY)
    assert isinstance(decision, Recall)
    row = driver.trial(two.trial_id)
    assert (row.state, row.waits_for, row.recalled_from) == ("recalled", None, one.trial_id)
    assert driver.events() == [("ask", 0), ("ask", 1), ("ask", 2), ("tell", 0), ("tell", 1)]


def test_when_the_leader_fails_the_next_one_leads(driver: Driver) -> None:
    leader = driver.launch(0, "k")
    followers = [decision.trial_id for decision in driver.ask(proposal(1, "k"), proposal(2, "k"))]
    driver.ledger.fail(leader, "failed", {}, "ValueError", retry=False)
    first, second = driver.ledger.reconsider(followers, POLICY)
    assert isinstance(first, Launch)
    assert second == Wait(followers[1], followers[0], second.reason)
    assert driver.trial(followers[1]).waits_for == followers[0]


def test_a_leader_that_is_queued_again_hinders_nobody_of_its_job(driver: Driver) -> None:
    leader = driver.launch(0, "k")
    [follower] = driver.ask(proposal(1, "k"))
    driver.ledger.fail(leader, "lost", {}, "node died", retry=True)
    [decision] = driver.ledger.reconsider([follower.trial_id], POLICY)
    assert isinstance(decision, Launch)  # and the other way round, now
    [decision] = driver.ledger.reconsider([leader], POLICY)
    assert isinstance(decision, Wait)
    assert decision.holder_id == follower.trial_id


def test_partly_equal_candidates_wait_too(driver: Driver) -> None:
    first = driver.launch(0, "a", "b")
    decisions = driver.ask(proposal(1, "x", "b"), proposal(2, "x"), proposal(3, "y"))
    assert [one.holder_id for one in decisions if isinstance(one, Wait)] == [first, first]
    assert isinstance(decisions[2], Launch)


def test_jobs_share_a_catalog(driver: Driver, catalog: Catalog) -> None:
    other = started(catalog, "another")
    first = driver.launch(0, "k")
    [decision] = other.ask(proposal(0, "k"))
    assert isinstance(decision, Wait)
    assert decision.holder_id == first
    assert driver.job_id in decision.reason
    driver.ledger.finish([result(first, accuracy=0.8)])
    [answered] = other.ledger.reconsider([decision.trial_id], POLICY)
    assert isinstance(answered, Recall)
    assert answered.values == {"accuracy": 0.8}


def test_a_dead_jobs_claims_are_taken_over(driver: Driver, catalog: Catalog) -> None:
    other = started(catalog, "another")
    first = driver.launch(0, "k", "l")
    [waiting] = other.ask(proposal(0, "k"))
    assert isinstance(waiting, Wait)
    driver.die()
    [decision] = other.ledger.reconsider([waiting.trial_id], POLICY)
    assert isinstance(decision, Launch)
    revived = driver.revived()
    [decision] = revived.ledger.reconsider([first], POLICY)
    assert isinstance(decision, Wait)  # it comes second now
    assert decision.holder_id == waiting.trial_id
    other.ledger.finish([result(waiting.trial_id)])
    [decision] = revived.ledger.reconsider([first], POLICY)
    assert isinstance(decision, Recall)
    assert revived.trial(first).attempts == 1  # it had been launched once


def test_a_zombies_claims_arent_given_up_twice(driver: Driver, catalog: Catalog) -> None:
    """A driver whose lease ran out, whose claim went to another job, and who finishes all the same."""
    other = started(catalog, "another")
    first = driver.launch(0, "k")
    driver.die()
    second = other.launch(0, "k")
    driver.ledger.finish([result(first)])  # nobody took the job: it may
    third = started(catalog, "third")
    [decision] = third.ask(proposal(0, "k"))
    assert isinstance(decision, Recall)
    other.ledger.finish([result(second)])


def test_a_job_that_recalls_its_own_results_knows_no_others(driver: Driver, catalog: Catalog) -> None:
    other = started(catalog, "another")
    driver.ledger.finish([result(driver.launch(0, "done"))])
    driver.launch(1, "running")
    decisions = other.ask(proposal(0, "done"), proposal(1, "running"), proposal(2, "running"), recall=OWN)
    assert isinstance(decisions[0], Launch)
    assert isinstance(decisions[1], Launch)
    assert decisions[2] == Wait(decisions[2].trial_id, decisions[1].trial_id, decisions[2].reason)
    other.ledger.finish([result(decisions[0].trial_id, accuracy=0.3)])
    [decision] = other.ask(proposal(3, "done"), recall=OWN)
    assert isinstance(decision, Recall)
    assert decision.source_id == decisions[0].trial_id


def test_contexts_are_apart(driver: Driver, catalog: Catalog) -> None:
    driver.ledger.finish([result(driver.launch(0, "k"))])
    driver.ledger.start_stage(driver.stage_id, "d" * 32)
    with pytest.raises(CatalogError, match=f"context '{'d' * 32}'.*recall from '{CONTEXT}'"):
        driver.ask(proposal(1, "k"))
    [decision] = driver.ask(proposal(1, "k"), recall=replace(POLICY, context="d" * 32))
    assert isinstance(decision, Launch)


def test_without_keys_a_candidate_simply_runs(driver: Driver) -> None:
    assert all(isinstance(decision, Launch) for decision in driver.ask(proposal(0), proposal(1)))
