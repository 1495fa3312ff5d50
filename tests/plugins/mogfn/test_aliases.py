"""Candidates that are the same: known multiplicities, the right share of each class, none twice."""

from __future__ import annotations

from collections import Counter
from math import factorial, prod
from typing import Any

import numpy as np
import pytest

from orchestrate.core import (
    Candidate,
    Choose,
    Goal,
    Observation,
    Sampler,
    SearchProblem,
    SearchSpace,
    SpaceExhausted,
    SpecError,
)
from orchestrate.core.registry import Registry
from orchestrate.plugins.mogfn import aliases, exact
from orchestrate.plugins.mogfn.al import MogfnAl
from orchestrate.plugins.mogfn.aliases import Aliases
from orchestrate.plugins.mogfn.hypergrid import HyperGrid
from orchestrate.plugins.mogfn.pc import MogfnPc
from tests.plugins.mogfn.spaces import everything


class Bag(SearchSpace):
    """Four letters whose order says nothing: of 81 words, 15 are different."""

    name = "bag"
    summary = "letters in any order"

    def choices(self, choose: Choose) -> None:
        for place in range(4):
            choose.categorical(f"letter{place}", list("abc"))

    def canonical(self, candidate: Candidate) -> Any:
        return "".join(sorted(map(str, candidate.values())))


BAG = Bag()
WORDS = everything(BAG)
GOALS = (Goal("a", "maximize"), Goal("b", "maximize"))


def score(candidate: Candidate) -> dict[str, float]:
    letters = [*candidate.values()]
    return {goal.name: letters.count(goal.name) / 4 for goal in GOALS}


def multiplicity(bag: str) -> int:
    return factorial(4) // prod(factorial(bag.count(letter)) for letter in "abc")


def started(cls: type[Sampler[Any]], known: bool = False, **options: Any) -> Any:
    sampler = cls(cls.Options.model_validate(options))
    functions = {one.name: (lambda word, name=one.name: score(word)[name]) for one in GOALS} if known else {}
    sampler.start(SearchProblem(BAG, GOALS, 0, 100, functions))
    return sampler


def test_names_are_counted() -> None:
    names = Aliases(BAG, "correct")
    assert len({names.name(one) for one in WORDS}) == 15
    found = np.exp(names.log_multiplicity(WORDS))
    assert found == pytest.approx([multiplicity(BAG.canonical(one)) for one in WORDS])
    for rule in ("separate", "merge"):
        assert not Aliases(BAG, rule).log_multiplicity(WORDS).any()  # type: ignore[arg-type]
    assert len({Aliases(BAG, "separate").name(one) for one in WORDS}) == 81


def test_cells_of_a_benchmark_have_names() -> None:
    """Each class's candidates share out one: their inverse multiplicities sum to the number of classes."""
    space = Registry.discover().create(SearchSpace, "nasbench201", {})
    names, cells = Aliases(space, "correct"), everything(space)
    classes = len({names.name(one) for one in cells})
    assert 5000 < classes < 7000
    assert np.exp(-names.log_multiplicity(cells)).sum() == pytest.approx(classes)


@pytest.mark.parametrize("order", ["program", "any"])
@pytest.mark.parametrize("rule", ["correct", "separate"])
def test_a_thing_comes_as_often_as_its_reward_says(rule: str, order: str) -> None:
    """P(class) = R^β / Z over classes; without the correction, the same times the number of names."""
    sampler = started(
        MogfnPc,
        known=True,
        aliases=rule,
        order=order,
        bounds={"a": (-1, 1), "b": (-1, 1)},  # no reward is 0, whose logarithm takes long to learn
        gflownet={"steps": 200, "width": 64, "learning_rate": 1e-2, "beta": {"high": 2.0, "warmup": 0.0}},
    )
    sampler.ask(0)
    net = sampler.learnt(sampler.latest())
    weights = np.array([[0.7, 0.3]])
    if order == "any":
        found, (chances,) = exact.terminating_distributions(net, weights, 2.0)
    else:
        from orchestrate.plugins.mogfn.serving import repeated

        found, chances = WORDS, np.exp(net.log_probability(WORDS, repeated(weights[0], 81, 2.0)))
    reached: Counter[str] = Counter()
    for word, chance in zip(found, chances, strict=True):
        reached[BAG.canonical(word)] += chance
    bags = sorted(reached)
    members = {BAG.canonical(word): word for word in WORDS}
    rewards = net.log_scalarise(weights, net.rewards([members[bag] for bag in bags]))
    once, _ = exact.target(2 * rewards)
    often, _ = exact.target(2 * rewards + np.log([multiplicity(bag) for bag in bags]))
    here = np.array([reached[bag] for bag in bags])
    right, wrong = (once, often) if rule == "correct" else (often, once)
    assert exact.distance(here, right) < 0.1
    assert exact.distance(here, wrong) > 0.3
    if rule == "correct":
        shown = sampler.diagnostics()
        assert shown["log_z/even"][-1][1] == pytest.approx(shown["log_z/even_true"][0][1], abs=0.2)
        if order == "program":
            assert shown["rank_correlation/even"] > 0.8


@pytest.mark.parametrize("rule", ["merge", "correct"])
@pytest.mark.parametrize("kind", [MogfnAl, MogfnPc])
def test_none_is_proposed_twice_under_another_name(kind: type[Sampler[Any]], rule: str) -> None:
    sampler = started(
        kind,
        aliases=rule,
        initial=6,
        batch=3,
        gflownet={"steps": 10, "width": 16},
        **({"growth": 1.0, "pool": 64} if kind is MogfnAl else {}),
    )
    bags: list[str] = []
    for number in range(13):
        word = sampler.ask(number)
        bags.append(BAG.canonical(word))
        sampler.tell(number, word, Observation("finished", score(word)))
    suggested = [one.candidate for one in sampler.propose_for({"a": 0.5, "b": 0.5}, 5)]
    bags += [BAG.canonical(word) for word in suggested]
    assert len(set(bags)) == len(bags)
    for number in range(13, 15):
        word = sampler.ask(number)
        sampler.tell(number, word, Observation("finished", score(word)))
    with pytest.raises(SpaceExhausted):
        sampler.ask(15)


def test_spaces_that_cannot_say_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="leave out `aliases: merge`"):
        Aliases(HyperGrid(HyperGrid.Options(size=4)), "merge")
    monkeypatch.setattr(aliases, "COUNTED", 80)
    with pytest.raises(SpecError, match="take `aliases: merge`"):
        started(MogfnAl, aliases="correct")
