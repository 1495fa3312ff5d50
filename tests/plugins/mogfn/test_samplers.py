"""The samplers as a job uses them: rounds, restart, bounds, failures, preferences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from orchestrate.core import (
    Candidate,
    Goal,
    Observation,
    Sampler,
    SearchProblem,
    SearchSpace,
    SpaceExhausted,
    SpecError,
    replay,
)
from orchestrate.core.draw import draw_candidate
from orchestrate.core.testing import ExampleSpace
from orchestrate.plugins.mogfn.al import MogfnAl, changed, differing
from orchestrate.plugins.mogfn.gflownet import GFlowNet
from orchestrate.plugins.mogfn.hypergrid import HyperGrid
from orchestrate.plugins.mogfn.pc import MogfnPc
from orchestrate.plugins.mogfn.sequences import NGrams
from tests.plugins.mogfn.spaces import Slots, everything
from tests.plugins.mogfn.test_anyorder import Varying

GOALS = (Goal("branin", "maximize"), Goal("currin", "maximize"))
GRID = HyperGrid(HyperGrid.Options(size=16))
SMALL = {"steps": 15, "batch": 16, "width": 16, "depth": 2}
KINDS: dict[str, type[Sampler[Any]]] = {"mogfn-al": MogfnAl, "mogfn-pc": MogfnPc}


def started(
    name: str,
    space: SearchSpace = GRID,
    goals: Sequence[Goal] = GOALS,
    exact: Sequence[str] = (),
    **options: Any,
) -> Sampler[Any]:
    cls = KINDS[name]
    given = {
        "initial": 8,
        "batch": 4,
        "gflownet": SMALL,
        **({"pool": 64, "growth": 1.0} if name == "mogfn-al" else {}),
        **options,
    }
    sampler = cls(cls.Options.model_validate(given))
    functions = {one: (lambda candidate, one=one: GRID.score(candidate)[one]) for one in exact}
    sampler.start(SearchProblem(space, tuple(goals), 5, 100, functions))
    return sampler


def score(candidate: Candidate) -> Mapping[str, float]:
    return GRID.score(candidate)


def run(sampler: Sampler[Any], numbers: range) -> list[Candidate]:
    asked: list[Candidate] = []
    for number in numbers:
        candidate = sampler.ask(number)
        asked.append(candidate)
        values = score(candidate)
        violation = sum(goal.violation(values[goal.name]) for goal in sampler.problem.goals)
        sampler.tell(number, candidate, Observation("finished", values, violation))
    return asked


@pytest.mark.parametrize("name", KINDS)
def test_a_resumed_search_goes_on_as_if_uninterrupted(name: str) -> None:
    """Stopped in the middle of a round, at its edge, and among the first candidates."""
    whole = started(name)
    asked = run(whole, range(20))
    assert len(set(asked)) == 20
    for stop in (5, 12, 14):
        again = started(name)
        for number, candidate in enumerate(asked[:stop]):
            again.adopt(number, candidate)
            again.tell(number, candidate, Observation("finished", score(candidate)))
        assert run(again, range(stop, 20)) == asked[stop:]


@pytest.mark.parametrize("name", KINDS)
def test_exact_objectives_need_no_trial(name: str) -> None:
    if name == "mogfn-pc":
        sampler = started(
            name,
            exact=("branin", "currin"),
            graph=False,
            gflownet={**SMALL, "steps": 150, "learning_rate": 1e-2},
        )
        asked = [sampler.ask(number) for number in range(32)]
        found = np.array([[score(one)["branin"], score(one)["currin"]] for one in asked])
        rng = np.random.default_rng(0)
        chance = [draw_candidate(GRID, rng) for _ in range(500)]
        assert (
            found.max(axis=1).mean()
            > np.mean([max(score(one)["branin"], score(one)["currin"]) for one in chance]) + 0.1
        )
        shown = sampler.diagnostics()
        assert {"loss", "log_z/branin", "log_z/currin", "log_z/even"} <= set(shown)
        assert len(shown["loss"]) == len(shown["log_z/even"]) == 50  # type: ignore[arg-type]
        served = [value for _, value in shown["served_reward"]]  # type: ignore[union-attr]
        assert 0 < np.mean(served[:5]) < np.mean(served[-5:]) < 1.1
        correlated = [shown[f"rank_correlation/{which}"] for which in ("branin", "currin", "even")]
        assert min(correlated) > 0.3
        assert not sampler.diagnostics()
    else:
        sampler = started(name, exact=("currin",), pretraining=40)
        run(sampler, range(13))
        assert set(sampler.diagnostics()) >= {"loss", "surrogate_error/branin", "improvement"}
        suggestions = sampler.propose_for({"branin": 0.0, "currin": 1.0}, 3)
        for one in suggestions:
            assert one.predicted["currin"] == pytest.approx(score(one.candidate)["currin"])
            assert one.deviation["currin"] == 0
            assert one.deviation["branin"] > 0


@pytest.mark.parametrize("name", KINDS)
def test_a_preference_is_served(name: str) -> None:
    sampler = started(name, gflownet={**SMALL, "steps": 80, "learning_rate": 1e-2})
    with pytest.raises(SpecError, match="trial"):
        sampler.propose_for({"branin": 1.0, "currin": 0.0}, 5)
    run(sampler, range(30))
    before = sampler.ask(30)
    means = {}
    for goal, other in (("branin", "currin"), ("currin", "branin")):
        found = sampler.propose_for({goal: 1.0, other: 0.0}, 8)
        assert 0 < len(found) <= 8
        assert len({one.candidate for one in found}) == len(found)
        assert before not in {one.candidate for one in found}
        for one in found:
            assert replay(GRID, one.candidate) == one.candidate
        means[goal] = {each: np.mean([score(one.candidate)[each] for one in found]) for each in (goal, other)}
    if name == "mogfn-al":
        assert means["branin"]["branin"] > means["currin"]["branin"]
        assert means["currin"]["currin"] > means["branin"]["currin"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mogfn-pc", {}),
        ("mogfn-al", {}),
        ("mogfn-al", {"surrogate": "evidential"}),
        ("mogfn-al", {"surrogate": "gp"}),
    ],
    ids=str,
)
def test_what_was_trained_is_kept(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is that of the sampler that trained, and nothing is trained for it again."""
    if options.get("surrogate") == "gp":
        pytest.importorskip("gpytorch")
    sampler = started(name, exact=("currin",), pretraining=20, **options) if options else started(name)
    asked = run(sampler, range(14))
    sampler.tell(99, draw_candidate(GRID, np.random.default_rng(0)), Observation("failed"))
    wanted = {"branin": 0.3, "currin": 0.7}
    answer = sampler.propose_for(wanted, 5)
    saved = sampler.save()
    assert saved is not None

    def restored() -> Sampler[Any]:
        again = type(sampler)(sampler.options)
        again.start(sampler.problem)
        for number, candidate in enumerate(asked):
            again.adopt(number, candidate)
            again.tell(number, candidate, Observation("finished", score(candidate)))
        return again

    assert restored().propose_for(wanted, 5) == answer  # trained again, to the same end
    early = started(name)
    early.load(saved)  # of another time: of no use
    assert early.save() is None
    monkeypatch.setattr(GFlowNet, "train", None)
    monkeypatch.setattr(torch.optim.Adam, "step", None)
    monkeypatch.setattr(torch.optim.AdamW, "step", None)
    again = restored()
    again.load(saved)
    assert again.propose_for(wanted, 5) == answer
    assert again.save() == saved


def test_running_trials_are_not_proposed_again_and_change_the_next_round() -> None:
    alone, busy = started("mogfn-al"), started("mogfn-al")
    run(alone, range(8))
    run(busy, range(8))
    waiting = [busy.ask(number) for number in range(8, 12)]  # none of them told
    assert [alone.ask(number) for number in range(8, 12)] == waiting
    more = [busy.ask(number) for number in range(12, 16)]
    assert not set(more) & set(waiting)


BOUND = Goal("sphere", None, maximum=0.3)
BREAKS = {one: BOUND.violation(GRID.score(one)["sphere"]) > 0 for one in everything(GRID)}


def test_exact_bounds_are_kept() -> None:
    """Where a score has to stay low, fewer proposals break the bound than candidates drawn by chance."""
    training = {**SMALL, "steps": 100, "learning_rate": 1e-2}
    sampler = started(
        "mogfn-pc", goals=(*GOALS, BOUND), exact=("branin", "currin", "sphere"), gflownet=training
    )
    asked = run(sampler, range(32))
    assert np.mean([BREAKS[one] for one in asked[16:]]) < 0.6 * np.mean(list(BREAKS.values()))


def test_bounds_are_learnt() -> None:
    """The model tells candidates that keep a bound from those that don't. Which are then proposed is a
    matter of what they promise, too: improvement times chance.
    """
    sampler = started("mogfn-al", goals=(*GOALS, BOUND))
    assert isinstance(sampler, MogfnAl)
    run(sampler, range(32))
    learnt = sampler.learn(sampler.snapshot(32))
    assert learnt is not None
    chance = learnt[0].believe(list(BREAKS)).chance
    breaks = np.array(list(BREAKS.values()))
    assert chance[breaks].mean() < 0.4
    assert chance[~breaks].mean() > 0.7


def test_failures_are_learnt() -> None:
    """Half of the grid fails: its other half is given the better chances."""
    sampler = started("mogfn-al", initial=40)
    assert isinstance(sampler, MogfnAl)
    failing = [one for one in everything(GRID) if int(one["x0"]) < 8]  # type: ignore[arg-type]
    for number in range(40):
        candidate = sampler.ask(number)
        told = Observation("failed") if candidate in failing else Observation("finished", score(candidate))
        sampler.tell(number, candidate, told)
    learnt = sampler.learn(sampler.snapshot(40))
    assert learnt is not None
    chance = dict(zip(everything(GRID), learnt[0].believe(everything(GRID)).chance, strict=True))
    assert np.mean([chance[one] for one in failing]) < 0.3
    assert np.mean([one for cell, one in chance.items() if cell not in failing]) > 0.7


@pytest.mark.parametrize("name", KINDS)
def test_a_small_space_is_proposed_once_and_ends(name: str) -> None:
    space = Slots()
    sampler = started(name, space, (Goal("loss", "minimize"),), batch=12)
    seen: set[Candidate] = set()
    for number in range(84):
        candidate = sampler.ask(number)
        assert candidate not in seen
        seen.add(candidate)
        sampler.tell(number, candidate, Observation("finished", {"loss": float(len(candidate))}))
    for number in (84, 85):
        with pytest.raises(SpaceExhausted):
            sampler.ask(number)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preference": {"accuracy": 1.0}}, "'accuracy'"),
        ({"log": ["flops"]}, "'flops'"),
        ({"gflownet": {"alpha": [1.0, 2.0, 3.0]}}, "3 numbers for 2 objectives"),
    ],
)
@pytest.mark.parametrize("name", KINDS)
def test_options_that_fit_no_objective_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        started(name, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"acquisition": "ei"},
        {"acquisition": "ehvi"},
        {"acquisition": "nehvi"},
        {"acquisition": "thompson"},
        {"gflownet": {**SMALL, "scalarisation": "goal"}},
        {"preference": {"branin": 1.0}, "explore": 1, "apart": 2},
        {"backtrack": 12, "edits": 2},
        {"log": ["currin"], "bounds": {"branin": [0.0, 1.0]}, "cover": "k-means"},
    ],
    ids=str,
)
def test_variants_propose_valid_candidates(options: dict[str, Any]) -> None:
    asked = run(started("mogfn-al", **options), range(16))
    assert len(set(asked)) == 16


def test_goals_are_said_to_be_met_or_not() -> None:
    training = {**SMALL, "steps": 60, "learning_rate": 1e-2, "scalarisation": "goal"}
    sampler = started("mogfn-pc", exact=("branin", "currin"), gflownet=training)
    sampler.ask(0)
    shares = [share for _, share in sampler.diagnostics()["focus_accuracy"]]  # type: ignore[union-attr]
    assert len(shares) == 60
    assert 0 <= min(shares) < max(shares) <= 1


def test_a_space_without_an_order_is_refused_before_any_trial() -> None:
    with pytest.raises(SpecError, match="any order"):
        started("mogfn-pc", Varying(), (Goal("b", "maximize"),), order="any")


def test_a_huge_conditional_space() -> None:
    """Over 10^19 words: valid and unique proposals."""
    space = NGrams(NGrams.Options(alphabet="ACGT", shortest=10, longest=32, wanted=("AC", "GT"), scale=10))
    goals = (Goal("AC", "maximize"), Goal("GT", "maximize"))
    exact = {gram: (lambda one, gram=gram: space.score(one)[gram]) for gram in ("AC", "GT")}
    sampler = MogfnPc(MogfnPc.Options.model_validate({"batch": 100, "gflownet": SMALL}))
    sampler.start(SearchProblem(space, goals, 0, None, exact))
    asked = [sampler.ask(number) for number in range(200)]
    assert len(set(asked)) == 200
    for one in asked:
        assert replay(space, one) == one


def test_a_neighbour_differs_in_what_was_drawn_and_what_hangs_on_it() -> None:
    space, rng = ExampleSpace(), np.random.default_rng(0)
    parent = draw_candidate(space, rng)
    for _ in range(30):
        other = changed(space, parent, rng)
        assert replay(space, other) == other
        assert differing(parent, other) <= 1 or other["kind"] != parent["kind"]


def test_rounds_grow_with_what_is_known() -> None:
    """And what is asked for at once is never more than a round, so that no result is left unused."""
    sampler = started("mogfn-al", growth=0.125)
    at_once: list[int] = []
    for number, candidate in enumerate(everything(GRID)[:40]):
        at_once.append(sampler.lookahead)
        sampler.adopt(number, candidate)
        sampler.tell(number, candidate, Observation("finished", score(candidate)))
    assert at_once[:8] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert at_once[8:18] == [1] * 8 + [2, 1]
    assert at_once[24:30] == [3, 2, 1, 3, 2, 1]
    assert at_once[33:37] == [4, 3, 2, 1]


def test_choices_may_be_made_in_any_order_and_log_z_is_shown_beside_the_truth() -> None:
    space = Slots()
    exact: dict[str, Callable[[Candidate], float]] = {
        "short": lambda one: -float(len(one)),
        "wide": lambda one: float(sum(value in (5, 7) for value in one.values())),
    }
    training = {**SMALL, "steps": 200, "learning_rate": 1e-2, "beta": {"high": 2.0}}
    sampler = MogfnPc(MogfnPc.Options.model_validate({"order": "any", "batch": 8, "gflownet": training}))
    goals = tuple(Goal(name, "maximize") for name in exact)
    sampler.start(SearchProblem(space, goals, 5, 100, exact))
    asked = [sampler.ask(number) for number in range(12)]
    assert len({one.digest for one in asked}) == 12
    assert all(replay(space, one) == one for one in asked)
    values = np.array([[function(one) for function in exact.values()] for one in everything(space)])
    shares = (values - values.min(axis=0)) / np.ptp(values, axis=0)
    truth = np.log((np.maximum(shares.mean(axis=1), 1e-4) ** 2).sum())
    shown = sampler.diagnostics()
    assert shown["log_z/even_true"] == [(step, pytest.approx(truth)) for step in (1, training["steps"])]
    course = shown["log_z/even"]
    assert not isinstance(course, float)
    assert course[-1][0] == training["steps"]
    assert course[-1][1] == pytest.approx(truth, abs=0.3)
    assert abs(course[0][1] - truth) > 0.3
    assert {"log_z/short_true", "log_z/wide_true"} <= set(shown)
