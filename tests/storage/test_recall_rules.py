"""Recall's rules: verification, means, forgetting, eviction, age, failures, audits, curves, invalidation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, update

from orchestrate.core import Candidate, Key, Print
from orchestrate.core.errors import CatalogError
from orchestrate.core.seeds import generator
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.check import check
from orchestrate.storage.drafts import Proposal, Report
from orchestrate.storage.ledger import Launch, Recall, Refuse, Wait
from orchestrate.storage.models import ClassRow, EvaluationRow, TrialRow
from orchestrate.storage.recall import Earlier, audits, familiar, imported, invalidate, statistics, trace
from orchestrate.storage.recall.decide import FORGET
from tests.storage.conftest import CONTEXT, POLICY, Driver, proposal, result, started
from tests.storage.test_ledger import NOW

LEAD = replace(POLICY, lead="accuracy")


@pytest.fixture(autouse=True)
def _consistent(catalog: Catalog) -> Iterator[None]:
    yield
    assert check(catalog) == []


def hashed(number: int, made: Print, **choices: Any) -> Proposal:
    return Proposal(number, Candidate(choices or {"x": number}), 2**62 + number, made)


def printed(key: str, *signature: float, shifted: str | None = None, **more: Any) -> Print:
    return Print((Key("functional", key, shifted),), signature, atol=0.01, **more)


def ran(driver: Driver, *proposals: Proposal, policy: Any = POLICY, accuracy: float = 0.5) -> list[Any]:
    """Ask for one after the other; what is launched ends at once."""
    decisions: list[Any] = []
    for one in proposals:
        [decision] = driver.ask(one, recall=policy)
        if isinstance(decision, Launch):
            driver.ledger.finish([result(decision.trial_id, accuracy=accuracy)])
        decisions.append(decision)
    return decisions


# Verification --------------------------------------------------------------------------------------


def test_a_matching_key_is_verified_by_its_numbers(driver: Driver) -> None:
    first, near, far, far_again = ran(
        driver,
        hashed(0, printed("k", 1.0, 2.0)),
        hashed(1, printed("k", 1.005, 2.0)),
        hashed(2, printed("k", 1.5, 2.0)),
        hashed(3, printed("k", 1.5, 2.0)),
    )
    assert isinstance(near, Recall)
    assert near.source_id == first.trial_id
    assert isinstance(far, Launch)  # a collision: a class of its own, under the same key
    assert isinstance(far_again, Recall)
    assert far_again.source_id == far.trial_id


@pytest.mark.parametrize("other", [printed("k", 1.0, token="nan"), printed("k"), printed("k", 1.0, 1.0)])
def test_another_token_or_another_number_of_outputs_is_no_match(driver: Driver, other: Print) -> None:
    decisions = ran(driver, hashed(0, printed("k", 1.0)), hashed(1, other))
    assert [type(one) for one in decisions] == [Launch, Launch]


def test_a_print_that_was_made_at_sight_needs_no_numbers(driver: Driver, catalog: Catalog) -> None:
    seen = (Key("exact", "e"), Key("structural", "5"))
    whole = Print((*seen, Key("functional", "f")), (1.0,), atol=0.01)
    assert not familiar(catalog.engine, CONTEXT, seen)
    ran(driver, hashed(0, whole))
    assert familiar(catalog.engine, CONTEXT, seen)
    assert not familiar(catalog.engine, "another", seen)
    [decision] = ran(driver, hashed(1, Print((Key("exact", "e1"), seen[1]))))
    assert (type(decision), decision.tier) == (Recall, "structural")
    # A class that was founded without numbers may lack a key: the candidate is looked at as a whole.
    ran(driver, hashed(2, Print((Key("exact", "e2"), Key("structural", "6")))))
    assert not familiar(catalog.engine, CONTEXT, [Key("structural", "6")])
    # So is one whose keys lead to two classes.
    ran(driver, hashed(3, Print((Key("structural", "5"), Key("functional", "g")), (2.0,), atol=0.01)))
    assert not familiar(catalog.engine, CONTEXT, seen[1:])


def test_the_shifted_grid_catches_what_lies_on_an_edge(driver: Driver) -> None:
    _, other = ran(
        driver,
        hashed(0, printed("left", 0.999, shifted="middle")),
        hashed(1, printed("right", 1.001, shifted="middle")),
    )
    assert isinstance(other, Recall)


def test_an_equal_candidate_is_a_hit_of_the_exact_tier_after_a_functional_one(driver: Driver) -> None:
    def made(number: int, exact: str) -> Proposal:
        return hashed(number, Print((Key("exact", exact), Key("functional", "f")), (1.0,), atol=0.1))

    tiers = [one.tier for one in ran(driver, made(0, "a"), made(1, "b"), made(2, "b"), made(3, "a"))[1:]]
    assert tiers == ["functional", "exact", "exact"]


# Several evaluations -------------------------------------------------------------------------------


def test_the_answer_is_the_mean_of_so_many_evaluations(driver: Driver) -> None:
    policy = replace(LEAD, evaluations=3)
    told: list[float] = []
    for number, accuracy in enumerate((0.2, 0.4, 0.9)):
        [decision] = driver.ask(proposal(number, "k"), recall=policy)
        assert isinstance(decision, Launch)
        values = driver.ledger.finish([result(decision.trial_id, accuracy=accuracy)])
        told.append(values[decision.trial_id]["accuracy"])
    assert told == pytest.approx([0.2, 0.3, 0.5])  # what the sampler hears: the running mean
    assert driver.trial(decision.trial_id).values == {"accuracy": pytest.approx(0.5)}
    assert driver.trial(decision.trial_id).metrics["accuracy"] == 0.9
    [answer] = driver.ask(proposal(3, "k"), recall=policy)
    assert isinstance(answer, Recall)
    assert answer.values == {"accuracy": pytest.approx(0.5)}
    assert (len(answer.served), answer.metrics["loss"]) == (3, 1.0)
    assert "mean of 3 evaluations" in answer.reason


def test_several_evaluations_run_at_a_time_and_no_more(driver: Driver) -> None:
    decisions = driver.ask(
        *(proposal(number, "k") for number in range(5)), recall=replace(LEAD, evaluations=3)
    )
    assert [type(one) for one in decisions] == [Launch] * 3 + [Wait] * 2


def test_a_small_standard_error_is_enough(driver: Driver) -> None:
    policy = replace(LEAD, evaluations=10, standard_error=0.01)
    decisions = ran(driver, *(proposal(number, "k") for number in range(3)), policy=policy)
    assert [type(one) for one in decisions] == [Launch, Launch, Recall]


# Forgetting ----------------------------------------------------------------------------------------


def test_a_class_is_forgotten_at_every_kth_use(driver: Driver) -> None:
    policy = replace(POLICY, forget_every=3)
    kinds = [type(one) for one in ran(driver, *(proposal(n, "k") for n in range(8)), policy=policy)]
    assert kinds == [Launch, Recall, Recall] * 2 + [Launch, Recall]


def test_a_class_is_forgotten_by_a_draw_that_only_depends_on_the_trial(driver: Driver) -> None:
    policy = replace(POLICY, forget_probability=0.5)
    decisions = ran(driver, *(proposal(n, "k") for n in range(30)), policy=policy)
    forgotten, expected = True, []
    for number, _ in enumerate(decisions):
        expected.append(Launch if forgotten else Recall)
        drawn = generator(2**62 + number, FORGET).random() < 0.5
        forgotten = expected[-1] is Recall and drawn
    assert [type(one) for one in decisions] == expected
    assert {Launch, Recall} == set(expected[1:])


def test_the_least_recently_used_class_is_evicted(driver: Driver) -> None:
    policy = replace(POLICY, max_classes=2)
    ran(driver, proposal(0, "a"), proposal(1, "b"), proposal(2, "a"), proposal(3, "c"), policy=policy)
    again = ran(driver, proposal(4, "a"), proposal(5, "c"), proposal(6, "b"), policy=policy)
    assert [type(one) for one in again] == [Recall, Recall, Launch]


def test_what_is_in_flight_is_never_evicted(driver: Driver) -> None:
    policy = replace(POLICY, max_classes=1, evaluations=2)
    ran(driver, proposal(0, "a"), policy=policy)
    [flying] = driver.ask(proposal(1, "a"), recall=policy)
    ran(driver, proposal(2, "b"), proposal(3, "b"), policy=policy)
    driver.ledger.finish([result(flying.trial_id)])
    [decision] = driver.ask(proposal(4, "a"), recall=policy)
    assert isinstance(decision, Recall)


def test_old_results_arent_served(driver: Driver, catalog: Catalog) -> None:
    policy = replace(POLICY, ttl=3600.0)
    ran(driver, proposal(0, "k"), policy=policy)
    assert isinstance(ran(driver, proposal(1, "k"), policy=policy)[0], Recall)
    with catalog.engine.begin() as connection:
        connection.execute(update(EvaluationRow).values(at=EvaluationRow.at - 3700))
    assert isinstance(ran(driver, proposal(2, "k"), policy=policy)[0], Launch)


# Failures ------------------------------------------------------------------------------------------


def fail(driver: Driver, number: int, error: str, state: str = "failed") -> None:
    [decision] = driver.ask(proposal(number, "k"), recall=replace(POLICY, failures=60.0))
    assert isinstance(decision, Launch)
    driver.ledger.fail(decision.trial_id, state, {"type": error, "message": "no"}, error, retry=False)


def test_a_candidate_that_would_fail_by_its_own_code_is_refused(driver: Driver, catalog: Catalog) -> None:
    fail(driver, 0, "ZeroDivisionError")
    policy = replace(POLICY, failures=60.0)
    [decision] = driver.ask(proposal(1, "k"), recall=policy)
    assert isinstance(decision, Refuse)
    row = driver.trial(decision.trial_id)
    assert (row.state, row.attempts, row.recalled_from) == ("failed", 0, decision.source_id)
    assert "failed: ZeroDivisionError: no" in row.reason
    assert isinstance(ran(driver, proposal(2, "k"))[0], Launch)  # unless failures aren't remembered
    with catalog.engine.begin() as connection:
        connection.execute(update(EvaluationRow).values(at=EvaluationRow.at - 61))
    assert isinstance(driver.ask(proposal(3, "k"), recall=policy)[0], Recall)  # a success answers


@pytest.mark.parametrize("error", ["OutOfMemoryError", "MemoryError", "OSError"])
def test_what_the_machine_lacked_is_no_failure_of_the_candidate(driver: Driver, error: str) -> None:
    fail(driver, 0, error)
    fail(driver, 1, error)


def test_a_lost_trial_is_no_failure(driver: Driver) -> None:
    fail(driver, 0, "ValueError", "lost")
    fail(driver, 1, "ValueError", "lost")


# What differs between equal functions --------------------------------------------------------------


def test_measured_objectives_are_made_anew_unless_the_candidate_is_equal(driver: Driver) -> None:
    policy = replace(POLICY, measured=frozenset({"latency"}), unshared=frozenset({"loss"}))
    [first] = driver.ask(hashed(0, printed("k", 1.0), width=1), recall=policy)
    driver.ledger.finish([replace(result(first.trial_id), values={"accuracy": 0.5, "latency": 7.0})])
    [equal] = driver.ask(hashed(1, printed("k", 1.0), width=1), recall=policy)
    assert isinstance(equal, Recall)
    assert equal.values == {"accuracy": 0.5, "latency": 7.0}
    assert equal.metrics == {"accuracy": 0.5, "loss": 1.0}
    [other] = driver.ask(hashed(2, printed("k", 1.0), width=2), recall=policy)
    assert isinstance(other, Launch)
    assert other.recall is not None
    assert (other.recall.values, other.recall.metrics) == ({"accuracy": 0.5}, {"accuracy": 0.5})
    values = {"accuracy": 0.5, "latency": 3.0}
    driver.ledger.finish(
        [replace(result(other.trial_id, "recalled"), values=values, recalled_from=first.trial_id)]
    )
    row = driver.trial(other.trial_id)
    assert (row.state, row.values, row.attempts) == ("recalled", values, 1)


def test_a_longer_runs_report_answers_a_shorter_run(driver: Driver) -> None:
    long = replace(POLICY, steps=20, metrics={"accuracy": "accuracy"})
    [first] = driver.ask(proposal(0, "k"), recall=long)
    reports = [Report(step, {"accuracy": step / 100, "loss": 9.0}, NOW) for step in (5, 20)]
    driver.ledger.finish([result(first.trial_id, accuracy=0.2, reports=reports)])
    [short] = driver.ask(proposal(1, "k"), recall=replace(long, steps=5))
    assert isinstance(short, Recall)
    assert (short.values, short.metrics["loss"], short.seconds) == ({"accuracy": 0.05}, 9.0, 0.5)
    assert isinstance(driver.ask(proposal(2, "k"), recall=replace(long, steps=7))[0], Launch)  # no report
    assert isinstance(driver.ask(proposal(3, "k2"), recall=replace(long, steps=40))[0], Launch)


def test_a_pruned_run_answers_a_shorter_one(driver: Driver) -> None:
    long = replace(POLICY, steps=20, metrics={"accuracy": "accuracy"})
    [first] = driver.ask(proposal(0, "k"), recall=long)
    reports = [Report(step, {"accuracy": step / 100}, NOW) for step in (1, 5, 9)]
    driver.ledger.finish([replace(result(first.trial_id, "pruned", reports=reports), steps=9)])
    assert isinstance(driver.ask(proposal(1, "k"), recall=replace(long, steps=5))[0], Recall)
    assert isinstance(driver.ask(proposal(2, "k"), recall=long)[0], Launch)


# Audits --------------------------------------------------------------------------------------------


def test_an_audit_that_finds_another_score_puts_the_class_in_quarantine(
    driver: Driver, catalog: Catalog
) -> None:
    policy = replace(LEAD, audit=1.0, audit_tolerance=0.01)
    ran(driver, proposal(0, "good"), proposal(1, "bad"), policy=policy)
    good = ran(driver, proposal(2, "good"), policy=policy)[0]
    bad = ran(driver, proposal(3, "bad"), policy=policy, accuracy=0.9)[0]
    assert isinstance(good, Launch)
    assert good.reason.startswith("audit of a functional match")
    assert driver.trial(bad.trial_id).values == {"accuracy": 0.9}  # its own
    trusting = replace(policy, audit=0.0)
    assert isinstance(ran(driver, proposal(4, "good"), policy=trusting)[0], Recall)
    assert isinstance(ran(driver, proposal(5, "bad"), policy=trusting)[0], Launch)
    with catalog.engine.connect() as connection:
        found = audits(connection, CONTEXT, "accuracy", 0.01)
    assert (found.audited, found.wrong, found.quarantined) == (2, 1, 1)
    assert (found.low, found.high) == pytest.approx((0.012579, 0.987421), abs=1e-5)  # Clopper-Pearson, 1 of 2
    known = trace(catalog.engine, bad.trial_id)
    assert known is not None
    assert (known.state, known.differences) == ("quarantined", {"accuracy": pytest.approx(0.4)})


def test_the_tolerance_is_learned_from_the_audits_themselves(driver: Driver, catalog: Catalog) -> None:
    policy = replace(LEAD, audit=1.0)
    for number in range(6):
        ran(driver, proposal(2 * number, f"k{number}"), policy=policy)
        noise = 0.5 + 0.01 * (-1) ** number
        ran(driver, proposal(2 * number + 1, f"k{number}"), policy=policy, accuracy=noise)
    ran(driver, proposal(20, "wrong"), policy=policy)
    ran(driver, proposal(21, "wrong"), policy=policy, accuracy=0.8)
    with catalog.engine.connect() as connection:
        states = set(connection.scalars(select(ClassRow.state)))
        found = audits(connection, CONTEXT, "accuracy")
    assert (found.audited, found.wrong) == (7, 1)
    assert found.tolerance == pytest.approx(3 * 1.4826 * 0.01)
    assert "quarantined" in states


# Invalidation --------------------------------------------------------------------------------------


def test_an_invalid_result_is_served_no_more_and_who_was_served_it_is_marked(
    driver: Driver, catalog: Catalog
) -> None:
    first, second, other = ran(driver, proposal(0, "k"), proposal(1, "k"), proposal(2, "else"))
    buried = invalidate(catalog.engine, "trial", str(first.trial_id), "the disk was full")
    assert (buried.evaluations, buried.trials) == (1, (second.trial_id,))
    known = trace(catalog.engine, second.trial_id)
    assert known is not None
    assert known.invalid == "the disk was full"
    assert known.sources[0].invalid == "the disk was full"
    assert isinstance(ran(driver, proposal(3, "k"))[0], Launch)
    assert isinstance(ran(driver, proposal(4, "k"))[0], Recall)
    assert isinstance(ran(driver, proposal(5, "else"))[0], Recall)
    assert statistics(catalog.engine, driver.stage_id).invalid == 1
    assert other.trial_id not in buried.trials


FIELDS = {"data": {"digest": "d" * 32}, "code": {"digest": "c0de" * 8}}


@pytest.mark.parametrize(
    ("scope", "subject"),
    [("namespace", CONTEXT[:8]), ("data", "d" * 32), ("code", "c0de"), ("class", "1")],
)
def test_whole_namespaces_data_code_and_classes_are_buried_with_what_is_in_flight(
    driver: Driver, catalog: Catalog, scope: Any, subject: str
) -> None:
    driver.ledger.open_memory(POLICY, FIELDS)
    ran(driver, proposal(0, "k"), policy=replace(POLICY, evaluations=2))
    [flying] = driver.ask(proposal(1, "k"), recall=replace(POLICY, evaluations=2))
    invalidate(catalog.engine, scope, subject, "labels were shuffled")
    driver.ledger.finish([result(flying.trial_id)])
    assert isinstance(ran(driver, proposal(2, "k"))[0], Launch)
    assert isinstance(ran(driver, proposal(3, "k"))[0], Recall)


def test_a_job_is_invalidated_and_what_isnt_there_cant_be(driver: Driver, catalog: Catalog) -> None:
    other = started(catalog, "another")
    ran(driver, proposal(0, "k"))
    [served] = ran(other, proposal(0, "k"))
    buried = invalidate(catalog.engine, "job", driver.job_id, "wrong learning rate")
    assert buried.trials == (served.trial_id,)
    for scope, subject in (("job", "nobody"), ("trial", "77"), ("data", "dddd"), ("class", "77")):
        with pytest.raises(CatalogError, match="nothing that recall could serve"):
            invalidate(catalog.engine, scope, subject, "why")  # type: ignore[arg-type]
    with pytest.raises(CatalogError, match="named by its number"):
        invalidate(catalog.engine, "trial", "seven", "why")


# Import, provenance, statistics --------------------------------------------------------------------


def test_earlier_trials_are_brought_in_once(driver: Driver, catalog: Catalog) -> None:
    [decision] = driver.ask(proposal(0, "k"), recall=None)
    driver.ledger.finish([result(decision.trial_id, accuracy=0.7)])
    earlier = [Earlier(decision.trial_id, printed("k", 1.0))]
    assert [imported(catalog.engine, earlier, POLICY, FIELDS) for _ in range(2)] == [1, 0]
    [answer] = driver.ask(hashed(1, printed("k", 1.0)))
    assert isinstance(answer, Recall)
    assert (answer.source_id, answer.values) == (decision.trial_id, {"accuracy": 0.7})


def test_a_trial_knows_where_its_score_came_from(driver: Driver, catalog: Catalog) -> None:
    first, second = ran(driver, proposal(0, "k"), proposal(1, "k"))
    known = trace(catalog.engine, second.trial_id)
    assert known is not None
    [source] = known.sources
    assert (source.trial_id, source.served, source.equal) == (first.trial_id, True, False)
    assert (known.tier, known.values, known.saved_seconds) == ("functional", {"accuracy": 0.5}, 2.0)
    alone = driver.ask(proposal(2), recall=None)[0].trial_id
    assert trace(catalog.engine, alone) is None


def test_statistics_count_proposals_trainings_and_hits_apart(driver: Driver, catalog: Catalog) -> None:
    policy = replace(LEAD, evaluations=2)
    token = {"token": "constant"}
    ran(
        driver,
        *(proposal(number, "k") for number in range(4)),
        *(hashed(number, printed("z", 0.0, **token)) for number in (4, 5)),
        policy=policy,
    )
    driver.ask(proposal(6, infeasible="too large"), recall=policy)
    found = statistics(catalog.engine, driver.stage_id, "accuracy")
    assert (found.proposals, found.trainings, found.hits) == (6, 4, 2)
    assert (found.misses, found.partial, found.classes) == (2, 2, 2)
    assert (found.by_tier, found.sizes) == ({"functional": 2}, {2: 1, 4: 1})
    assert (found.degenerate, found.saved_seconds) == ({"constant": 2}, {"functional": 4.0})
    assert found.curve[-1] == (6, pytest.approx(1 / 3))


def test_the_hash_is_judged_by_what_a_structural_key_proves_equal(driver: Driver, catalog: Catalog) -> None:
    def made(number: int, functional: str) -> Proposal:
        keys = (Key("exact", f"{number:x}"), Key("structural", "s"), Key("functional", functional))
        return hashed(number, Print(keys, (1.0,), atol=0.1))

    ran(driver, made(0, "f"), made(1, "f"), made(2, "g"), made(3, "h"))
    assert statistics(catalog.engine, driver.stage_id).false_negatives == (2, 3)


def test_the_second_training_is_recorded_once(driver: Driver, catalog: Catalog) -> None:
    [decision] = ran(driver, proposal(0, "k"))
    driver.ledger.confirmed(decision.trial_id, {"accuracy": 0.4})
    driver.ledger.confirmed(decision.trial_id, {"accuracy": 0.9})
    with catalog.engine.connect() as connection:
        assert connection.scalar(select(TrialRow.confirmed)) == {"accuracy": 0.4}


def test_two_that_came_back_from_failures_dont_wait_for_each_other(driver: Driver, catalog: Catalog) -> None:
    other = started(catalog, "another")
    first = driver.launch(0, "k")
    driver.die()
    second = other.launch(0, "k")
    other.ledger.fail(second, "lost", {"type": "LostError"}, "node died", retry=True)
    revived = driver.revived()
    [mine] = revived.ledger.reconsider([first], POLICY)
    [theirs] = other.ledger.reconsider([second], POLICY)
    assert isinstance(mine, Wait)
    assert isinstance(theirs, Launch)
