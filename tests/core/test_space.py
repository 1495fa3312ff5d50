from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrate.core import (
    Candidate,
    Categorical,
    Choice,
    Choose,
    Integer,
    Real,
    SearchSpace,
    Shape,
    SpaceError,
    enumerate_candidates,
    replay,
)
from orchestrate.core.draw import draw, draw_candidate, probe
from orchestrate.core.seeds import generator
from orchestrate.core.space import NoSpace


class Programmed(SearchSpace):
    """Runs a tree of choices: a node offers one choice, and its answer selects the next node."""

    name = "programmed"
    summary = "a random program"

    def __init__(self, tree: Any) -> None:
        super().__init__()
        self.tree = tree

    def choices(self, choose: Choose) -> None:
        for node in self.tree:
            self._walk(choose, node, "")

    def _walk(self, choose: Choose, node: Any, prefix: str) -> None:
        kind, name, detail, branches = node
        name = f"{prefix}{name}"
        if kind == "categorical":
            answer = choose.categorical(name, detail)
            index = [repr(option) for option in detail].index(repr(answer))
        elif kind == "integer":
            low, high, step = detail
            index = (choose.integer(name, low, high, step=step) - low) // step
        else:
            index = int(choose.real(name, *detail) > sum(detail) / 2)
        if branches:
            for child in branches[index % len(branches)]:
                self._walk(choose, child, f"{name}.{index}.")


def nodes(real: bool, depth: int) -> st.SearchStrategy[Any]:
    options = st.lists(
        st.sampled_from(["a", "b", 1, 1.0, True, None]), min_size=1, max_size=3, unique_by=repr
    )
    whole = st.builds(
        lambda low, width, step: (low, low + width, step),
        st.integers(-3, 3),
        st.integers(0, 4),
        st.integers(1, 2),
    )
    reals = st.tuples(st.floats(-2, 0), st.floats(0.5, 2))
    branches = st.just([]) if not depth else st.lists(forests(real, depth - 1), max_size=2)
    kinds = [st.tuples(st.just("categorical"), st.just("c"), options, branches)]
    kinds.append(st.tuples(st.just("integer"), st.just("i"), whole, branches))
    if real:
        kinds.append(st.tuples(st.just("real"), st.just("r"), reals, branches))
    return st.one_of(kinds)


def forests(real: bool, depth: int) -> st.SearchStrategy[Any]:
    def renamed(trees: list[Any]) -> list[Any]:
        return [(kind, f"{name}{index}", *rest) for index, (kind, name, *rest) in enumerate(trees)]

    return st.lists(nodes(real, depth), min_size=0 if depth < 2 else 1, max_size=2).map(renamed)


@settings(deadline=None)
@given(forests(real=True, depth=2), st.integers(0, 2**32))
def test_a_candidate_replays_to_itself(tree: Any, seed: int) -> None:
    space = Programmed(tree)
    candidate = draw_candidate(space, generator(seed))
    assert replay(space, candidate) == candidate
    assert list(replay(space, dict(candidate))) == list(candidate)
    if candidate:
        first = next(iter(candidate))
        fewer = {name: value for name, value in candidate.items() if name != first}
        with pytest.raises(SpaceError, match="has no answer to"):
            replay(space, fewer)
    with pytest.raises(SpaceError, match=r"never offers: \['extra'\]"):
        replay(space, {**candidate, "extra": 1})


@settings(max_examples=60, deadline=None)
@given(forests(real=False, depth=2))
def test_the_enumeration_is_complete_lexicographic_and_counted(tree: Any) -> None:
    space = Programmed(tree)
    ranks: list[tuple[int, ...]] = []
    listed: list[Candidate] = []
    for candidate in itertools.islice(enumerate_candidates(space), LISTED):
        rank: list[int] = []
        space.generate(recording(candidate, rank))
        ranks.append(tuple(rank))
        listed.append(candidate)
    assert ranks == sorted(set(ranks))
    assert len(set(listed)) == len(listed)
    if len(listed) < LISTED:
        assert space.size() == len(listed) == count(space)


LISTED = 300
"""Candidates of a random space that are looked at: some spaces have millions."""


def recording(candidate: Candidate, rank: list[int]) -> Callable[[Choice], Any]:
    def pick(choice: Choice) -> Any:
        value = candidate[choice.name]
        values = list(choice.values or ())
        rank.append(next(i for i, one in enumerate(values) if repr(one) == repr(value)))
        return value

    return pick


def count(space: Programmed) -> int:
    """Count by recursion over the tree, without walking."""

    def forest(trees: list[Any]) -> int:
        return math.prod(tree(one) for one in trees)

    def tree(node: Any) -> int:
        kind, _, detail, branches = node
        width = len(detail) if kind == "categorical" else len(range(detail[0], detail[1] + 1, detail[2]))
        if not branches:
            return width
        return sum(forest(branches[index % len(branches)]) for index in range(width))

    return forest(space.tree)


def test_a_large_or_endless_space_has_no_default_size() -> None:
    class Large(SearchSpace):
        """More than are counted by walking."""

        name = "large"
        summary = "large"
        counting_limit = 50

        def choices(self, choose: Choose) -> None:
            for index in range(6):
                choose.categorical(f"c{index}", ["a", "b"])

    class Endless(Large):
        """Real numbers."""

        def choices(self, choose: Choose) -> None:
            choose.real("x", 0, 1)

    assert Large().size() is None
    assert Endless().size() is None
    with pytest.raises(SpaceError, match="no end of values"):
        next(enumerate_candidates(Endless()))


def test_the_empty_walk_is_one_candidate() -> None:
    assert list(enumerate_candidates(NoSpace())) == [Candidate()]
    assert NoSpace().size() == 1


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Categorical("a", ()), "has no options"),
        (lambda: Categorical("a", (1, 2, 1)), "lists an option twice"),
        (lambda: Integer("a", 2, 1), "low <= high"),
        (lambda: Integer("a", 0, 1, step=0), "step >= 1"),
        (lambda: Integer("a", 0, 8, log=True), "low >= 1"),
        (lambda: Integer("a", 1, 8, step=2, log=True), "step 1"),
        (lambda: Real("a", 1.0, 0.0), "finite low <= high"),
        (lambda: Real("a", 0.0, float("inf")), "finite low <= high"),
        (lambda: Real("a", 0.0, 1.0, log=True), "low > 0"),
    ],
    ids=[
        "no options",
        "twice",
        "bounds",
        "step 0",
        "log of 0",
        "log with step",
        "order",
        "infinite",
        "log of 0.0",
    ],
)
def test_an_impossible_choice_is_refused(make: Any, text: str) -> None:
    with pytest.raises(SpaceError, match=text):
        make()


def test_options_are_told_apart_by_type() -> None:
    choice = Categorical("a", (1, True, 1.0))
    assert 1 in choice
    assert "1" not in choice
    assert 0 not in choice
    assert 1.0 not in Categorical("a", (1, True))
    assert True not in Categorical("a", (1, 1.0))


@given(st.integers(-5, 5), st.integers(0, 12), st.integers(1, 4))
def test_integers_lie_on_the_grid(low: int, width: int, step: int) -> None:
    choice = Integer("a", low, low + width, step)
    values = choice.values
    assert values is not None
    assert all((value in choice) == (value in values) for value in range(low - 3, low + width + 4))
    assert True not in Integer("a", 0, 1)
    assert 1.0 not in Integer("a", 0, 1)


def test_reals_are_floats_within_bounds() -> None:
    choice = Real("a", 0.0, 1.0)
    assert 0.0 in choice
    assert 1.0 in choice
    assert 1 not in choice
    assert 1.0000001 not in choice
    assert choice.values is None
    assert Real("a", 2.0, 2.0).values == (2.0,)


class Repeating(SearchSpace):
    """Makes a choice twice."""

    name = "repeating"
    summary = "makes a choice twice"

    def choices(self, choose: Choose) -> None:
        choose.integer("a", 0, 1)
        choose.categorical("a", [0, 1])


def test_a_name_is_offered_once_in_a_walk() -> None:
    with pytest.raises(SpaceError, match="made twice in one walk"):
        Repeating().generate(lambda choice: 0)


def test_an_answer_outside_the_choice_is_refused() -> None:
    with pytest.raises(SpaceError, match="7 is no answer to"):
        Repeating().generate(lambda choice: 7)


def test_the_program_sees_what_it_chose() -> None:
    class Looking(SearchSpace):
        """Reads its own choices."""

        name = "looking"
        summary = "reads its own choices"

        def choices(self, choose: Choose) -> None:
            first = choose.integer("first", 0, 3)
            assert dict(choose.made) == {"first": first}
            choose.real("second", first, first + 1)

    assert draw_candidate(Looking(), generator(0)).keys() == {"first", "second"}


def test_a_space_without_networks_says_so() -> None:
    assert not NoSpace().builds
    with pytest.raises(SpaceError, match="space 'none' builds no networks"):
        NoSpace().build(Candidate(), Shape((1, 8, 8), 10))


CHOICES = [
    Categorical("c", ("a", 1, None)),
    Integer("i", -3, 8, 3),
    Integer("l", 1, 100, log=True),
    Real("r", -1.0, 3.0),
    Real("g", 1e-4, 1e2, log=True),
    Real("p", 2.0, 2.0),
]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.name)
def test_drawing_stays_inside_and_reaches_everywhere(choice: Choice) -> None:
    rng = generator(1)
    drawn = [draw(choice, rng) for _ in range(4000)]
    assert all(value in choice for value in drawn)
    match choice:
        case Real(low=low, high=high) if high > low:
            place = [
                math.log(v / low) / math.log(high / low) if choice.log else (v - low) / (high - low)
                for v in drawn
            ]  # type: ignore[operator]
            assert abs(sum(place) / len(place) - 0.5) < 0.03
            assert min(place) < 0.01
            assert max(place) > 0.99
        case Integer(log=True):
            low_half = sum(value <= 10 for value in drawn) / len(drawn)  # type: ignore[operator]
            assert abs(low_half - math.log(10.5 / 0.5) / math.log(100.5 / 0.5)) < 0.03
        case _:
            counts = {repr(value): 0 for value in choice.values or ()}
            for value in drawn:
                counts[repr(value)] += 1
            expected = len(drawn) / len(counts)
            assert all(abs(found - expected) < 5 * math.sqrt(expected) for found in counts.values())


def test_a_probe_meets_every_common_choice() -> None:
    class Branching(SearchSpace):
        """Four branches."""

        name = "branching"
        summary = "four branches"

        def choices(self, choose: Choose) -> None:
            branch = choose.integer("branch", 0, 3)
            choose.real(f"x{branch}", 0, 1)

    names = {choice.name for choice in probe(Branching())}
    assert names == {"branch", "x0", "x1", "x2", "x3"}
