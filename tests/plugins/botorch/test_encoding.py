"""Candidates as points in a unit cube."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrate.core import Candidate, Choose, SearchSpace, replay
from orchestrate.core.draw import draw_candidate
from orchestrate.core.seeds import generator
from orchestrate.plugins.botorch.encoding import Encoding


class Mixed(SearchSpace):
    """A branch with a choice of its own, a range that depends on it, and a branch hardly ever taken."""

    name, summary = "mixed", "mixed"

    def choices(self, choose: Choose) -> None:
        kind = choose.categorical("kind", ["a", "b", 1, True])
        rate = choose.real("rate", 1e-4, 1.0, log=True)
        choose.integer("depth", 1, 4 if kind == "a" else 9, step=1)
        if kind == "b":
            choose.integer("width", 8, 32, step=8)
        if 1.01e-4 <= rate < 1.02e-4:
            choose.categorical("rare", ["x", "y"])


def test_every_type_by_hand() -> None:
    encoding = Encoding(Mixed())
    assert encoding.width == 4 + 1 + 1 + 2
    table = encoding.encode(
        [
            Candidate({"kind": "b", "rate": 1e-2, "depth": 9, "width": 16}),
            Candidate({"kind": True, "rate": 1.0, "depth": 1}),
        ]
    )
    assert table == pytest.approx(np.array([[0, 1, 0, 0, 0.5, 1, 1 / 3, 1], [0, 0, 0, 1, 1, 0, 0, 0]]))


def test_a_branch_that_no_walk_took_is_learnt() -> None:
    encoding, rare = Encoding(Mixed()), Candidate({"kind": "a", "rate": 1.015e-4, "depth": 2, "rare": "y"})
    before = encoding.width
    assert encoding.encode([rare]).shape == (1, before)
    encoding.learn(rare)
    assert encoding.width == before + 3
    assert encoding.encode([rare])[0, -3:].tolist() == [0, 1, 1]


def test_different_candidates_are_different_points_of_the_cube() -> None:
    space, rng = Mixed(), generator(0)
    candidates = list(dict.fromkeys(draw_candidate(space, rng) for _ in range(300)))
    encoding = Encoding(space)
    for candidate in candidates:
        assert replay(space, candidate) == candidate
        encoding.learn(candidate)
    table = encoding.encode(candidates)
    assert table.min() >= 0
    assert table.max() <= 1
    assert len(np.unique(table.round(12), axis=0)) == len(candidates)
