from __future__ import annotations

import math
from typing import Any

import pytest

from orchestrate.core import (
    Candidate,
    Choose,
    SearchProblem,
    SearchSpace,
    SpaceExhausted,
    SpecError,
    enumerate_candidates,
)
from orchestrate.plugins.samplers.grid import Grid
from tests.plugins.samplers.spaces import SINGLE, Cells, Mixed, Numbers


def every(space: SearchSpace, seed: int = 0, **options: Any) -> list[Candidate]:
    sampler = Grid(Grid.Options(**options))
    sampler.start(SearchProblem(space, SINGLE, seed))
    asked: list[Candidate] = []
    while True:
        try:
            asked.append(sampler.ask(len(asked)))
        except SpaceExhausted:
            return asked


def test_every_candidate_once_in_lexicographic_order() -> None:
    asked = every(Cells())
    assert asked == list(enumerate_candidates(Cells()))
    assert len(asked) == 3**5


def test_shuffled_is_a_permutation_by_the_seed() -> None:
    first, again, other = (every(Cells(), seed, shuffle=True) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert set(first) == set(every(Cells()))
    assert first != every(Cells())


def test_real_numbers_are_refused_with_the_way_out() -> None:
    with pytest.raises(SpecError, match=r"'rate'.*give `points`.*'random', 'qmc' or 'tpe'"):
        Grid().start(SearchProblem(Mixed(), SINGLE, 0))


def test_a_real_number_on_a_branch_is_found() -> None:
    class Hidden(Cells):
        """A real number behind the last option."""

        def choices(self, choose: Choose) -> None:
            if choose.categorical("kind", ["a", "b", "c"]) == "c":
                choose.real("x", 0, 1)

    with pytest.raises(SpecError, match="'x'"):
        Grid().start(SearchProblem(Hidden(), SINGLE, 0))


def test_points_cut_real_numbers_evenly() -> None:
    asked = every(Numbers(), points=4)
    assert len(asked) == len(set(asked)) == 4 * 4 * 10
    assert sorted({candidate["x"] for candidate in asked}) == pytest.approx([-2, -2 / 3, 2 / 3, 2])
    logarithms = sorted(math.log10(float(str(value))) for value in {one["y"] for one in asked})
    assert logarithms == pytest.approx([-3, -2, -1, 0])


def test_a_shuffle_of_too_many_is_refused() -> None:
    class Large(Cells):
        """More than can be listed."""

        def choices(self, choose: Choose) -> None:
            for index in range(20):
                choose.integer(f"n{index}", 0, 9)

        def size(self) -> int:
            return 10**20

    with pytest.raises(SpecError, match="`unique: true`"):
        Grid(Grid.Options(shuffle=True)).start(SearchProblem(Large(), SINGLE, 0))


def test_an_adopted_candidate_is_not_proposed_again() -> None:
    sampler = Grid()
    sampler.start(SearchProblem(Cells(), SINGLE, 0))
    listed = list(enumerate_candidates(Cells()))
    sampler.adopt(0, listed[0])
    assert sampler.ask(1) == listed[1]
