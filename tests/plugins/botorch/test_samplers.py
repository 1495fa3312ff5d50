"""`qnehvi` and `qparego` on problems whose answers are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from orchestrate.core import (
    Candidate,
    Choose,
    Goal,
    Observation,
    SearchProblem,
    SearchSpace,
    SpaceExhausted,
    SpecError,
)
from orchestrate.core.pareto import hypervolume
from orchestrate.plugins.botorch import QNehvi, QParEgo, samplers
from orchestrate.plugins.samplers.random_search import RandomSearch

GOALS = (Goal("near", "maximize", reference=-1.0), Goal("cost", "minimize", reference=1.0))
SMALL: dict[str, Any] = {"n_startup_trials": 6, "pool": 60, "mc_samples": 16}


class Plane(SearchSpace):
    """Two numbers and a switch; the front is at `good`, y = 0."""

    name, summary = "plane", "two numbers and a switch"

    def choices(self, choose: Choose) -> None:
        choose.real("x", 0, 1)
        choose.real("y", 0, 1)
        choose.categorical("switch", ["good", "bad", "worse"])


class Nine(SearchSpace):
    """Nine candidates."""

    name, summary = "nine", "nine candidates"

    def choices(self, choose: Choose) -> None:
        choose.integer("x", 0, 2)
        choose.integer("y", 0, 2)


def score(candidate: Mapping[str, Any]) -> dict[str, float]:
    waste = candidate["y"] + {"good": 0.0, "bad": 0.3, "worse": 0.6}[candidate.get("switch", "good")]
    return {"near": -((1 - candidate["x"]) ** 2) - waste, "cost": candidate["x"] ** 2 + waste}


def search(
    sampler: Any, trials: int, goals: Sequence[Goal] = GOALS, space: Any = None, seed: int = 0
) -> list[Candidate]:
    sampler.start(SearchProblem(space or Plane(), tuple(goals), seed, trials))
    asked: list[Candidate] = []
    for number in range(trials):
        asked.append(sampler.ask(number))
        values = score(asked[-1])
        violation = sum(goal.violation(values[goal.name]) for goal in goals)
        sampler.tell(number, asked[-1], Observation("finished", values, violation))
    return asked


def made(cls: Any, **options: Any) -> Any:
    pytest.importorskip("botorch", reason="the extra `botorch` is not installed")
    return cls(cls.Options(**{**SMALL, **options}))


@pytest.mark.parametrize("cls", [QNehvi, QParEgo])
def test_it_finds_more_than_random_search(cls: Any) -> None:
    def volume(asked: list[Candidate]) -> float:
        return hypervolume([score(one) for one in asked], GOALS, [1.0, 1.0])

    best = hypervolume([score({"x": x / 100, "y": 0}) for x in range(101)], GOALS, [1.0, 1.0])
    found = volume(search(made(cls), 15))
    assert best > found > 0.8 * best
    assert found > volume(search(RandomSearch(), 45))


def test_one_objective_will_do() -> None:
    asked = search(made(QNehvi), 12, GOALS[:1])
    assert max(score(one)["near"] for one in asked) > -0.04


def test_nothing_is_compiled_at_the_first_proposal(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = made(QNehvi)
    from botorch.acquisition.multi_objective import logei
    from torch.utils import cpp_extension

    compiled: list[Any] = []
    monkeypatch.setattr(logei, "_load_attempted", False)  # as in a new process
    monkeypatch.setattr(cpp_extension, "load", lambda **source: compiled.append(source))
    search(sampler, 8)
    assert not compiled


@pytest.mark.parametrize("cls", [QNehvi, QParEgo])
def test_nothing_is_proposed_twice_until_nothing_is_left(cls: Any) -> None:
    sampler = made(cls)
    asked = search(sampler, 9, space=Nine())
    assert len(set(asked)) == 9
    with pytest.raises(SpaceExhausted):
        sampler.ask(9)


def test_a_bound_on_an_objective_is_learnt() -> None:
    goals = (GOALS[0], Goal("cost", "minimize", maximum=0.25, reference=1.0))
    asked = search(made(QNehvi), 16, goals)
    kept = [score(one)["cost"] <= 0.25 for one in asked]
    assert sum(kept[10:]) >= 4
    assert max(score(one)["near"] for one, inside in zip(asked, kept, strict=True) if inside) > -0.35


def test_what_is_known_to_break_a_bound_is_never_proposed() -> None:
    goals = (*GOALS, Goal("x", None, maximum=0.5))
    sampler = made(QParEgo)
    exact = {"x": lambda candidate: float(candidate["x"])}
    sampler.start(SearchProblem(Plane(), goals, 1, 10, exact))
    for number in range(10):
        candidate = sampler.ask(number)
        values = {**score(candidate), "x": float(candidate["x"])}
        if number >= 6:
            assert candidate["x"] <= 0.5
        outcome = "finished" if candidate["x"] <= 0.5 else "infeasible"
        known = values if outcome == "finished" else {"x": values["x"]}
        sampler.tell(number, candidate, Observation(outcome, known, max(0.0, values["x"] - 0.5)))


def test_a_preference_is_served_and_leaves_no_trace() -> None:
    sampler = made(QNehvi)
    asked = search(sampler, 13)
    near = sampler.propose_for({"near": 1.0, "cost": 0.0}, 3)
    cheap = sampler.propose_for({"near": 0.0, "cost": 1.0}, 3)
    assert len({one.candidate for one in near}) == 3
    assert min(one.candidate["x"] for one in near) > max(one.candidate["x"] for one in cheap)
    assert [one.predicted["cost"] for one in cheap] == sorted(one.predicted["cost"] for one in cheap)
    for one in (*near, *cheap):
        truth = score(one.candidate)
        for name, value in truth.items():
            assert one.predicted[name] == pytest.approx(value, abs=max(0.15, 4 * one.deviation[name]))
    restored = made(QNehvi)
    restored.start(sampler.problem)
    for number, candidate in enumerate(asked):
        restored.adopt(number, candidate)
        restored.tell(number, candidate, Observation("finished", score(candidate)))
    assert sampler.ask(13) == restored.ask(13)


def test_without_a_model_it_says_so() -> None:
    sampler = made(QNehvi)
    search(sampler, 1)
    with pytest.raises(SpecError, match="no model yet"):
        sampler.propose_for({"near": 0.5, "cost": 0.5}, 1)


def test_without_botorch_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrate.plugins.botorch.bayesian.find_spec", lambda name: None)
    for cls in samplers():
        with pytest.raises(SpecError, match=r"pip install 'orchestrate-automl\[botorch\]'"):
            cls().start(SearchProblem(Plane(), GOALS, 0))
