"""Every sampler, stopped after thirty asks and rebuilt from its log, goes on as if nothing happened."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrate.core import Goal, Sampler, SearchProblem, SearchSpace
from orchestrate.plugins.samplers import samplers
from tests.plugins.samplers.spaces import BOUNDED, DOUBLE, SINGLE, Cells, Mixed, Numbers, restore, search

ASKS = 30
FURTHER = 10
SAMPLERS = {cls.name: cls for cls in samplers()}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("random", {}),
    ("random", {"unique": True}),
    ("grid", {}),
    ("grid", {"shuffle": True}),
    ("evolution", {"population": 12, "tournament": 4}),
    ("evolution", {"population": 12, "tournament": 4, "mutation": 0.3, "step": 0.1}),
    ("tpe", {}),
    ("tpe", {"multivariate": False, "constant_liar": False}),
    ("tpe", {"group": True}),
    ("nsga2", {"population_size": 8}),
    ("nsga2", {"population_size": 8, "crossover": "sbx", "mutation": "polynomial"}),
    ("nsga3", {"population_size": 8}),
    ("cma-es", {}),
    ("cma-es", {"with_margin": True, "popsize": 5}),
    ("qmc", {}),
    ("qmc", {"qmc_type": "halton", "scramble": True}),
]


def space_for(name: str) -> SearchSpace:
    return {"grid": Cells(), "cma-es": Numbers()}.get(name, Mixed())


def cases() -> list[Any]:
    return [
        pytest.param(name, options, goals, id=f"{name}-{'-'.join(map(str, options.values()))}-{label}")
        for name, options in VARIANTS
        for label, goals in (("one", SINGLE), ("two", DOUBLE), ("bounded", BOUNDED))
        if name != "cma-es" or label == "one"
    ]


def make(name: str, options: dict[str, Any], problem: SearchProblem) -> Sampler:
    cls = SAMPLERS[name]
    sampler = cls(cls.Options.model_validate(options))
    sampler.start(problem)
    return sampler


def compare(name: str, options: dict[str, Any], problem: SearchProblem, asks: int, further: int) -> None:
    for concurrency in (1, 2, 4):
        running: dict[int, Any] = {}
        first = make(name, options, problem)
        log = list(search(first, asks, concurrency=concurrency, running=running))
        assert len(running) == concurrency - 1
        second = make(name, options, problem)
        restore(second, log)
        ahead = [
            list(search(sampler, further, first=asks, concurrency=concurrency, running=dict(running)))
            for sampler in (first, second)
        ]
        assert ahead[0] == ahead[1]
        assert len({event.candidate for event in ahead[0]}) > 1


@pytest.mark.parametrize(("name", "options", "goals"), cases())
def test_the_next_asks_are_the_same(name: str, options: dict[str, Any], goals: tuple[Goal, ...]) -> None:
    compare(name, options, SearchProblem(space_for(name), goals, seed=7), ASKS, FURTHER)


@pytest.mark.parametrize("goals", [SINGLE, DOUBLE], ids=["one", "two"])
def test_gp(goals: tuple[Goal, ...]) -> None:
    """Fewer asks: this one takes tenths of a second each."""
    problem = SearchProblem(Numbers(), goals, seed=7)
    options = {"n_startup_trials": 3}
    running: dict[int, Any] = {}
    first = make("gp", options, problem)
    log = list(search(first, 6, concurrency=2, running=running))
    second = make("gp", options, problem)
    restore(second, log)
    assert first.ask(6) == second.ask(6)


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"gp", "grid", "qmc"}))
def test_seeds_matter(name: str) -> None:
    asked = [
        [event.candidate for event in search(make(name, {}, SearchProblem(space_for(name), SINGLE, seed)), 5)]
        for seed in (1, 2)
    ]
    assert asked[0] != asked[1]
