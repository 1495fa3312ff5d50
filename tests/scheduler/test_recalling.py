"""A stage that recalls: the search goes as it would without, only cheaper; its budgets; its namespace."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from orchestrate.core import Candidate, Choose, Fingerprint, Key, Print, SearchSpace, Task, digest, resolve
from orchestrate.core.registry import Registry
from orchestrate.scheduler.account import Account
from orchestrate.scheduler.compare import compare
from orchestrate.scheduler.examine import Examiner
from orchestrate.scheduler.recalling import familiarity, namespace, only_equal, recall_policy
from orchestrate.scheduler.stage import StageRun
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.check import check
from orchestrate.storage.ledger import JobDraft
from tests.scheduler.conftest import PARTS, job_data

HERE = "python:tests.scheduler.test_recalling"


class Sums(SearchSpace):
    """Four digits, of which only the sum counts: 256 candidates, 13 functions."""

    def choices(self, choose: Choose) -> None:
        for name in "abcd":
            choose.categorical(name, [0, 1, 2, 3])


def total(candidate: Candidate) -> int:
    return sum(candidate.values())  # type: ignore[arg-type]


class BySum(Fingerprint):
    """Knows that only the sum counts."""

    name = "by-sum"
    summary = "a functional fingerprint"
    computed: ClassVar[Counter[str]] = Counter()

    def compute(self, candidate: Candidate, space: SearchSpace, task: Task) -> Print:
        self.computed[candidate.digest] += 1
        sum_ = total(candidate)
        keys = (Key("exact", candidate.digest), Key("functional", digest(["sum", sum_])))
        return Print(keys, (float(sum_),), atol=0.1)


class AtSight(BySum):
    """Knows besides, without looking further, that the order doesn't count."""

    def at_sight(self, candidate: Candidate, space: SearchSpace) -> tuple[Key, ...]:
        return Key("exact", candidate.digest), Key("structural", digest(["sorted", structure(candidate)]))

    def compute(self, candidate: Candidate, space: SearchSpace, task: Task) -> Print:
        made = super().compute(candidate, space, task)
        return replace(made, keys=(*self.at_sight(candidate, space), made.keys[-1]))


def structure(candidate: Candidate) -> list[int]:
    return sorted(candidate.values())  # type: ignore[type-var,arg-type]


def counted(trial: Any, folder: str = "") -> dict[str, float]:
    return {"loss": float(abs(total(trial.candidate) - 7))}


def data(trials: int | None = 150, recall: dict[str, Any] | None = None, **stage: Any) -> dict[str, Any]:
    made = job_data("counted {folder: x}", trials or 1, **stage)
    made["space"] = {"name": f"{HERE}:Sums"}
    [found] = made["stages"]
    found["program"] = {"name": f"{HERE}:counted"}
    found["sampler"] = {"name": "evolution", "population": 10, "tournament": 4}
    if trials is None:
        del found["trials"]
    if recall is not None:
        found["recall"] = {"name": f"{HERE}:BySum", "window": None, **recall}
    return made


class Search:
    """A stage without Ray: every launch ends at once, with its sum's loss."""

    def __init__(self, folder: Path, made: dict[str, Any], name: str = "a") -> None:
        self.job = resolve(made, Registry.discover())
        self.stage = self.job.stages[0]
        self.catalog = Catalog.open(str(folder / f"{name}.db"))
        self.ledger = self.catalog.create_job(JobDraft("test", made, "", 0, {}, ("search",)), "test", 60)
        self.stage_id = self.catalog.stages(self.ledger.job_id)[0].id
        self.trained: list[str] = []
        self.run = self.start()

    def start(self) -> StageRun:
        policy = None
        if self.stage.fingerprint is not None:
            policy = recall_policy(self.stage, namespace(self.stage, self.job))
        self.ledger.start_stage(self.stage_id, policy.context if policy else "")
        sampler = type(self.stage.sampler)(self.stage.sampler.options)  # type: ignore[union-attr]
        known = familiarity(self.catalog, policy, self.ledger.job_id)
        examiner = Examiner(self.stage, self.job, hashing=not only_equal(self.stage), familiar=known)
        sampler.start(replace(self.stage.problem, key=examiner.key if policy else None))
        run = StageRun(
            *(self.stage, self.job, self.stage_id, self.ledger, sampler, policy),
            *(ThreadPoolExecutor(1), lambda *_, **__: None, lambda _: {}),
            examiner=examiner,
        )
        run.restore()
        return run

    def go(self, launches: int | None = None) -> Search:
        while not self.run.exhausted() and (launches is None or len(self.trained) < launches):
            asked = self.run.ask()
            if asked is None:
                continue
            number, orders = asked
            self.run.started(number)
            conclusions = [self.conclude(order) for order in orders]
            self.run.ended(number, conclusions)
        return self

    def conclude(self, order: dict[str, Any]) -> dict[str, Any]:
        candidate = Candidate(order["candidate"])
        self.trained.append(candidate.digest)
        metrics = {"loss": float(abs(total(candidate) - 7))}
        same = {"metrics": metrics, "values": metrics, "artifacts": [], "seconds": 0.1}
        return {"trial_id": order["trial_id"], "state": "finished", **same}

    def trajectory(self) -> list[tuple[int, str, str]]:
        rows = self.catalog.trials(stage_id=self.stage_id)
        return [(row.number, row.digest, repr(row.values)) for row in rows]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Search:
    return Search(tmp_path_factory.mktemp("plain"), data()).go()


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"max_classes": 2},
        {"forget_every": 2},
        {"forget_probability": 0.3},
        {"evaluations": 3},
        {"audit": 0.5, "audit_tolerance": 0.0},
        {"scope": "job", "max_classes": 2, "forget_probability": 0.1},
    ],
    ids=str,
)
def test_the_search_goes_as_it_would_without_recall(
    plain: Search, tmp_path: Path, rules: dict[str, Any]
) -> None:
    recalled = Search(tmp_path, data(recall=rules)).go()
    assert recalled.trajectory() == plain.trajectory()
    assert len(plain.trained) == 150
    assert len(recalled.trained) < 150
    assert check(recalled.catalog) == []
    if not rules:
        assert len(recalled.trained) == len(
            {total(Candidate(r.candidate)) for r in recalled.catalog.trials()}
        )


def test_a_restart_in_the_middle_changes_nothing(plain: Search, tmp_path: Path) -> None:
    search = Search(tmp_path, data(recall={"forget_probability": 0.3, "evaluations": 2}))
    search.go(launches=10)
    search.run.interrupt("test")
    search.run = search.start()
    assert search.go().trajectory() == plain.trajectory()
    whole = Search(tmp_path, data(recall={"forget_probability": 0.3, "evaluations": 2}), "whole").go()
    states = [
        [(row.number, row.state) for row in one.catalog.trials(stage_id=one.stage_id)]
        for one in (search, whole)
    ]
    assert states[0] == states[1]


def test_a_budget_of_trainings_counts_no_hits(tmp_path: Path) -> None:
    search = Search(tmp_path, data(None, recall={}, trainings=6, sampler={"name": "random"})).go()
    rows = search.catalog.trials()
    assert len(search.trained) == 6
    assert len(rows) > 6
    assert search.run.reason == "6 candidates were trained, as `trainings` says"


def test_a_search_that_only_repeats_itself_ends_with_the_reason(tmp_path: Path) -> None:
    search = Search(tmp_path, data(None, recall={"max_hits": 25}, trainings=14)).go()
    assert len(search.trained) <= 13
    assert search.run.reason.startswith("25 candidates in a row were answered without a training")


def test_a_print_is_computed_once_for_equal_candidates(tmp_path: Path) -> None:
    search = Search(tmp_path, data(recall={}))
    computed: Counter[str] = type(search.stage.fingerprint).computed  # type: ignore[union-attr]
    computed.clear()
    search.go()
    assert set(computed.values()) == {1}


def test_what_recall_knows_at_sight_is_not_hashed(plain: Search, tmp_path: Path) -> None:
    made = data(recall={"name": f"{HERE}:AtSight"})
    first = Search(tmp_path, made)
    computed: Counter[str] = type(first.stage.fingerprint).computed  # type: ignore[union-attr]
    computed.clear()
    first.go()
    assert first.trajectory() == plain.trajectory()
    assert len(computed) == len({tuple(structure(Candidate(r.candidate))) for r in plain.catalog.trials()})
    computed.clear()
    second = Search(tmp_path, made).go()  # another job of the same catalog
    assert second.trajectory() == plain.trajectory()
    assert (len(second.trained), len(computed)) == (0, 0)


def test_a_sampler_that_asks_for_keys_gets_the_strongest(tmp_path: Path) -> None:
    examiner = Search(tmp_path, data(recall={"name": f"{HERE}:AtSight"})).go().run.examiner
    one, other = (
        Candidate(dict(zip("abcd", digits, strict=True))) for digits in ([0, 1, 2, 3], [3, 3, 0, 0])
    )
    assert examiner.key(one) == examiner.key(other)


def test_hashing_that_costs_more_than_it_saves_is_given_up(tmp_path: Path, caplog: Any) -> None:
    search = Search(tmp_path, data(recall={"window": 20}))
    account = search.run.account
    for number in range(19):
        account.examined(number, "d", 1.0)
        account.answered(number, "exact" if number % 2 else "functional", 1.5)
    assert account.loss() is None
    account.examined(19, "d", 1.0)
    assert account.loss() == (20.0, 15.0)
    search.run._weigh_hashing()
    assert not search.run.examiner.hashing
    assert "hashing took 20 s over the last trials and saved 15 s" in caplog.text
    tiers = {key.tier for key in search.run.examiner(Candidate(dict.fromkeys("abcd", 0))).print.keys}
    assert tiers == {"exact"}


def test_accounts_survive_a_restart(tmp_path: Path) -> None:
    search = Search(tmp_path, data(60, recall={"window": 30})).go()
    again = Account(search.stage)
    again.restore(search.catalog.trials(), search.catalog.hits(search.stage_id))
    for name in ("_trained", "_hits_in_a_row"):
        assert getattr(again, name) == getattr(search.run.account, name)


@pytest.mark.parametrize(
    "change",
    [
        {"program": {"name": f"{PARTS}:bowl"}},
        {"program": {"name": f"{HERE}:counted", "folder": "y"}},
        {"space": {"name": f"{PARTS}:Three"}},
        {"recall": {"name": "exact"}},
    ],
    ids=str,
)
def test_another_program_option_space_or_hasher_is_another_namespace(change: dict[str, Any]) -> None:
    def context(made: dict[str, Any]) -> str:
        job = resolve(made, Registry.discover())
        return recall_policy(job.stages[0], namespace(job.stages[0], job)).context

    one, other = data(recall={}), data(recall={})
    other["stages"][0].update(change)
    assert context(one) != context(other)
    one["seed"], one["name"], one["stages"][0]["trials"] = 99, "renamed", 3
    one["stages"][0]["recall"].update(evaluations=4, audit=0.1)
    assert context(one) == context(data(recall={}))


def test_limits_and_audits_of_a_hasher_leave_the_namespace_as_it_is() -> None:
    def context(**options: Any) -> str:
        one = data(recall={})
        one["space"] = {"name": "nasbench201"}
        one["stages"][0]["recall"] = {"name": "functional-hash", **options}
        job = resolve(one, Registry.discover(), check=False)
        return recall_policy(job.stages[0], namespace(job.stages[0], job)).context

    assert context(check=0.5, seconds=3, memory=512, isolate=False) == context()
    assert context(examples=8) != context()


def test_an_epoch_more_is_the_same_namespace_where_the_learning_rate_is_constant() -> None:
    def made(epochs: int, schedule: str) -> tuple[str, int | None]:
        one = data(recall={"name": "exact"})
        one["space"] = {"name": "nasbench201"}
        one["objectives"] = [{"metric": "accuracy", "direction": "maximize"}]
        one["stages"][0]["program"] = {"name": "train", "epochs": epochs, "schedule": {"name": schedule}}
        job = resolve(one, Registry.discover())
        policy = recall_policy(job.stages[0], namespace(job.stages[0], job))
        return policy.context, policy.steps

    assert made(3, "constant")[0] == made(9, "constant")[0]
    assert made(9, "constant")[1] == 9
    assert made(3, "cosine")[0] != made(9, "cosine")[0]


def test_two_candidates_are_compared_by_keys_and_numbers() -> None:
    job = resolve(data(recall={}), Registry.discover())
    stage = job.stages[0]

    def digits(text: str) -> Candidate:
        return Candidate(dict(zip("abcd", map(int, text), strict=True)))

    same = compare(stage, job, digits("0123"), digits("0123"))
    assert (same.equal, same.tier) == (True, "exact")
    merged = compare(stage, job, digits("0123"), digits("3210"))
    assert (merged.equal, merged.tier) == (True, "functional")
    parted = compare(stage, job, digits("0123"), digits("3330"))
    assert not parted.equal
    assert parted.reason == "output 0 differs by 3, tolerance 0.1"
