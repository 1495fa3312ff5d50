from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrate.core import (
    Candidate,
    Choose,
    Goal,
    Observation,
    SearchProblem,
    SearchSpace,
    SpecError,
    replay,
)
from orchestrate.core.draw import draw_candidate
from orchestrate.core.mutate import mutate
from orchestrate.core.seeds import generator
from orchestrate.plugins.samplers.evolution import (
    Evolution,
    EvolutionOptions,
    Member,
    fitness,
)
from orchestrate.plugins.samplers.random_search import RandomSearch
from tests.plugins.samplers.spaces import BOUNDED, DOUBLE, SINGLE, Cells, Mixed, Numbers


def started(problem: SearchProblem, **options: Any) -> Evolution:
    sampler = Evolution(EvolutionOptions(**options))
    sampler.start(problem)
    return sampler


def changed(parent: Candidate, child: Candidate) -> set[str]:
    return {name for name in parent if name in child and parent[name] != child[name]}


@given(st.integers(0, 10**6))
def test_a_child_changes_one_choice_where_nothing_is_conditional(seed: int) -> None:
    rng = generator(seed)
    for space in (Cells(), Numbers()):
        parent = draw_candidate(space, rng)
        child = mutate(space, parent, rng)
        assert len(changed(parent, child)) == 1


@given(st.integers(0, 10**6), st.sampled_from([None, 0.2, 1.0]), st.sampled_from([None, 0.05, 1.0]))
def test_a_child_is_of_the_space_and_differs(seed: int, rate: float | None, step: float | None) -> None:
    rng, space = generator(seed), Mixed()
    parent = draw_candidate(space, rng)
    child = mutate(space, parent, rng, rate=rate, step=step)
    assert replay(space, child) == child
    assert child != parent


@given(st.integers(0, 10**6))
def test_every_choice_changes_at_rate_one(seed: int) -> None:
    rng = generator(seed)
    parent = draw_candidate(Cells(), rng)
    child = mutate(Cells(), parent, rng, rate=1.0)
    assert changed(parent, child) == set(parent)


def test_choices_are_changed_equally_often() -> None:
    rng = generator(5)
    counts = dict.fromkeys(Numbers().generate(lambda choice: choice.low), 0)  # type: ignore[union-attr]
    for _ in range(3000):
        parent = draw_candidate(Numbers(), rng)
        for name in changed(parent, mutate(Numbers(), parent, rng)):
            counts[name] += 1
    assert all(900 < count < 1100 for count in counts.values())


def test_a_step_stays_near() -> None:
    rng, parent = generator(3), Candidate({"x": 0.0, "y": 0.03, "n": 5})
    moves: list[float] = []
    for _ in range(600):
        child = mutate(Numbers(), parent, rng, step=0.1)
        moves.append(abs(float(str(child["x"]))))
        assert changed(parent, child)
    moved = np.array([move for move in moves if move])
    assert 0.3 < np.sqrt((moved**2).mean()) < 0.5  # a tenth of a range of four


class Lonely(SearchSpace):
    """One candidate."""

    name = "lonely"
    summary = "one candidate"

    def choices(self, choose: Choose) -> None:
        choose.categorical("only", ["one"])
        choose.integer("n", 3, 3)
        choose.real("x", 1.0, 1.0)


def test_a_space_of_one_candidate_is_borne() -> None:
    sampler = started(SearchProblem(Lonely(), SINGLE, 0), population=2, tournament=2)
    for number in range(5):
        candidate = sampler.ask(number)
        assert dict(candidate) == {"only": "one", "n": 3, "x": 1.0}
        sampler.tell(number, candidate, Observation("finished", {"loss": 1.0}))


def test_the_oldest_dies_whatever_its_score() -> None:
    sampler = started(SearchProblem(Cells(), SINGLE, 0), population=5, tournament=5)
    for number in range(20):
        candidate = sampler.ask(number)
        sampler.tell(number, candidate, Observation("finished", {"loss": float(number)}))
    kept = [member.observation.values["loss"] for member in sampler._population]
    assert kept == [15.0, 16.0, 17.0, 18.0, 19.0]


def test_the_best_entrant_is_the_parent() -> None:
    """With tournaments as large as the population, children descend from its best few."""
    problem = SearchProblem(Cells(), SINGLE, 0)
    sampler = started(problem, population=10, tournament=10)
    members = [sampler.ask(number) for number in range(10)]
    for number, candidate in enumerate(members):
        sampler.tell(number, candidate, Observation("finished", {"loss": float(number)}))
    near = [
        min(rank for rank, parent in enumerate(members) if len(changed(parent, child)) <= 1)
        for child in (sampler.ask(number) for number in range(10, 60))
    ]
    assert sum(rank <= 2 for rank in near) / len(near) > 0.85  # 1 - (1 - 3/10) ** 10 = 0.97 at best


def members(points: list[tuple[float, float, float]]) -> list[Member]:
    return [
        Member(Candidate({"i": index}), Observation("finished", {"loss": loss, "gain": gain}, violation))
        for index, (loss, gain, violation) in enumerate(points)
    ]


def test_fitness_is_constrained_dominance_then_crowding() -> None:
    problem = SearchProblem(Cells(), DOUBLE, 0)
    points = [
        (1.0, 1.0, 0.0),  # front, an end
        (2.0, 2.0, 0.0),  # front, crowded
        (2.1, 2.1, 0.0),  # front, crowded
        (5.0, 5.0, 0.0),  # front, an end
        (3.0, 1.0, 0.0),  # dominated
        (0.1, 9.0, 0.5),  # violates, though it dominates all
        (0.1, 9.0, 0.2),  # violates less
    ]
    keys = fitness(members(points), problem)
    order = sorted(range(len(points)), key=keys.__getitem__)
    assert set(order[:2]) == {0, 3}
    assert order[4:] == [4, 6, 5]


def test_an_unscored_infeasible_candidate_is_no_parent_once_something_is_scored() -> None:
    problem = SearchProblem(Cells(), BOUNDED, 0)
    sampler = started(problem, population=2, tournament=2)
    for number in range(2):
        candidate = sampler.ask(number)
        sampler.tell(number, candidate, Observation("infeasible", {}, 2.0 - number))
    assert len(changed(sampler._refused[1].candidate, sampler.ask(2))) <= 1
    scored = sampler.ask(3)
    sampler.tell(3, scored, Observation("finished", {"loss": 1.0, "gain": 0.5}))
    assert all(len(changed(scored, sampler.ask(number))) == 1 for number in range(4, 10))


def test_failed_trials_are_no_parents() -> None:
    sampler = started(SearchProblem(Cells(), SINGLE, 0), population=3, tournament=2)
    for number, outcome in enumerate(["failed", "lost", "cancelled", "pruned"]):
        sampler.tell(number, sampler.ask(number), Observation(outcome, {"loss": 0.0}))  # type: ignore[arg-type]
    assert not sampler._population
    assert not sampler._refused


@pytest.mark.parametrize("goals", [SINGLE, (Goal("gain", "maximize"),)], ids=["min", "max"])
def test_it_beats_random_search(goals: tuple[Goal, ...]) -> None:
    """The mean of the last hundred of 400 trials, over five seeds, in the goal's own sense."""

    class Count(Cells):
        """Twelve choices of three."""

        def choices(self, choose: Choose) -> None:
            for index in range(12):
                choose.categorical(f"edge{index}", ["none", "skip", "conv"])

    (goal,) = goals
    sign = 1.0 if goal.direction == "minimize" else -1.0

    def last(sampler: Any, seed: int) -> float:
        sampler.start(SearchProblem(Count(), goals, seed))
        losses = []
        for number in range(400):
            candidate = sampler.ask(number)
            right = sum(value == "conv" for value in candidate.values())
            values = {goal.name: -right * sign}
            sampler.tell(number, candidate, Observation("finished", values))
            losses.append(-right)
        return float(np.mean(losses[-100:]))

    evolved = [last(Evolution(), seed) for seed in range(5)]
    drawn = [last(RandomSearch(), seed) for seed in range(5)]
    assert max(evolved) < min(drawn) - 3


def test_a_tournament_larger_than_the_population_is_refused() -> None:
    with pytest.raises(ValueError, match="larger than population"):
        EvolutionOptions(population=5, tournament=6)


def test_scores_are_used_by_name() -> None:
    """A sampler that confused the goals would prefer the other candidate."""
    goals = (Goal("gain", "maximize"), Goal("loss", None, maximum=100.0))
    one = Member(Candidate({"i": 0}), Observation("finished", {"loss": 0.0, "gain": 1.0}))
    two = Member(Candidate({"i": 1}), Observation("finished", {"loss": 9.0, "gain": 2.0}))
    keys = fitness([one, two], SearchProblem(Cells(), goals, 0))
    assert keys[1] < keys[0]


def first_choice(candidate: Candidate) -> str:
    """All that counts of a candidate: the rest is dead code."""
    return str(next(iter(sorted(candidate.items())))[1])


def children(count: int, **options: Any) -> list[Candidate]:
    """Ask again and again of a population of one parent."""
    problem = SearchProblem(Cells(), (Goal("loss", "minimize"),), 0, key=first_choice)
    sampler = started(problem, population=2, tournament=1, **options)
    parent = draw_candidate(Cells(), generator(5))
    for number in range(2):
        sampler.adopt(number, parent)
        sampler.tell(number, parent, Observation("finished", {"loss": 0.0}))
    return [parent, *(sampler.ask(number) for number in range(2, 2 + count))]


def test_a_functional_change_mutates_until_the_child_computes_something_else() -> None:
    parent, *plain = children(40)
    assert any(first_choice(child) == first_choice(parent) for child in plain)
    parent, *changing = children(40, functional_change=True, attempts=200)
    assert all(first_choice(child) != first_choice(parent) for child in changing)


def test_a_functional_change_gives_up_after_its_attempts() -> None:
    parent, *children_ = children(40, functional_change=True, attempts=1)
    assert any(first_choice(child) == first_choice(parent) for child in children_)


def test_what_was_proposed_often_enough_is_tabu_and_a_restart_knows_it() -> None:
    parent, *proposed = children(40, tabu=3, attempts=500)
    counts = [first_choice(one) for one in [parent, parent, *proposed]]
    kinds = len(set(counts))
    assert max(counts[: 3 * kinds].count(kind) for kind in set(counts)) <= 3

    problem = SearchProblem(Cells(), (Goal("loss", "minimize"),), 0, key=first_choice)
    again = started(problem, population=2, tournament=1, tabu=3, attempts=500)
    for number, candidate in enumerate([parent, parent, *proposed[:-1]]):
        again.adopt(number, candidate)
        if number < 2:
            again.tell(number, candidate, Observation("finished", {"loss": 0.0}))
    assert again.ask(len(proposed) + 1) == proposed[-1]


@pytest.mark.parametrize("option", [{"functional_change": True}, {"tabu": 2}])
def test_they_need_a_recall(option: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="give the stage a `recall`"):
        started(SearchProblem(Cells(), (Goal("loss", "minimize"),), 0), **option)
