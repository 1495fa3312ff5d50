"""Edits of parents: what is near is made, and nothing else, as often as its reward says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from orchestrate.core import Candidate, enumerate_candidates, replay
from orchestrate.core.draw import draw_candidate
from orchestrate.plugins.mogfn import exact
from orchestrate.plugins.mogfn.conditions import BetaOptions
from orchestrate.plugins.mogfn.edits import PARENT, Edits, EditWalks
from orchestrate.plugins.mogfn.gflownet import GFlowNet
from orchestrate.plugins.mogfn.options import TrainingOptions
from orchestrate.plugins.mogfn.serving import repeated
from tests.plugins.mogfn.spaces import Described, Flat, Slots, chance, everything
from tests.plugins.mogfn.test_walk import spaces


def flat(word: str) -> Candidate:
    return Candidate({f"c{index}": letter for index, letter in enumerate(word)})


NEAR = Edits(Flat(), [flat("aaaa"), flat("abaa"), flat("cccc")], 1)
SLOTS = Edits(
    Slots(),
    [Candidate({"depth": 1, "kind0": "pool"}), Candidate({"depth": 2, "kind0": "pool", "kind1": "pool"})],
    1,
)


def test_what_is_one_change_away_by_hand() -> None:
    """Around a parent 1 + 4 * 2 words; aaaa and abaa share the three that differ in the second letter."""
    made = Counter(NEAR.result(one) for one in enumerate_candidates(NEAR))
    assert sum(made.values()) == 3 * 9
    assert len(made) == 9 + 9 + 9 - 3
    assert {one for one, count in made.items() if count == 2} == {flat("aaaa"), flat("abaa"), flat("acaa")}
    for candidate in everything(Flat()):
        assert len(NEAR.near(candidate)) == made[candidate]


def test_what_a_change_brings_along_is_free() -> None:
    """From depth 1 to 2: all that the second layer may be, and the first stays."""
    made = {SLOTS.result(one) for one in enumerate_candidates(SLOTS)}
    deeper = {one for one in everything(Slots()) if one["depth"] == 2 and one["kind0"] == "pool"}
    assert deeper <= made
    changed = Candidate({"depth": 2, "kind0": "conv", "kernel0": 3, "kind1": "conv", "kernel1": 3})
    assert changed not in made
    assert not SLOTS.near(changed)


@settings(max_examples=40)
@given(space=spaces(), seed=st.integers(0, 1000), most=st.integers(0, 3))
def test_every_edit_is_a_candidate_and_written_once_a_parent(space: Described, seed: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    parents = list(dict.fromkeys(draw_candidate(space, rng) for _ in range(3)))
    walks = EditWalks(Edits(space, parents, most))
    made = walks.forward(8, chance(rng), rng)
    for candidate in made.candidates:
        assert replay(space, candidate) == candidate
        near = walks.edits.near(candidate)
        written = [walks.edits.write(candidate, index) for index in near]
        assert [one.get(PARENT, 0) for one in written] == near
        assert {walks.edits.result(one) for one in written} == {candidate}
    for index, parent in enumerate(parents):
        assert index in walks.edits.near(parent)
    back = walks.backward(made.candidates, None, rng)
    assert list(back.candidates) == list(made.candidates)
    assert back.mask[np.arange(len(back.actions)), back.actions].all()


@pytest.mark.parametrize("edits", [NEAR, SLOTS], ids=["flat", "conditional"])
def test_the_target_is_learnt(edits: Edits) -> None:
    """P(x | w) = R_w(x)^β / Z over all that is near some parent, however many parents that are."""

    def rewards(found: Sequence[Candidate]) -> NDArray[np.float64]:
        return np.array(
            [[0.3 + 0.7 * (hash_of(one) % 7) / 6, 0.3 + 0.7 * (hash_of(one) % 5) / 4] for one in found]
        )

    options = TrainingOptions(
        batch=64, beta=BetaOptions(high=2.0, warmup=0.0), learning_rate=1e-2, width=64, steps=220
    )
    walks, weights = EditWalks(edits), np.array([0.8, 0.2])
    net = GFlowNet(walks, 2, rewards, options, np.random.default_rng(0))
    net.train()
    names = list(enumerate_candidates(edits))
    with pytest.raises(TypeError, match="many walks"):
        net.log_probability([edits.result(names[0])], repeated(weights, 1, 2.0))
    net.environment = walks.walks  # where each name has one walk
    chances = np.exp(net.log_probability(names, repeated(weights, len(names), 2.0)))
    assert chances.sum() == pytest.approx(1, abs=1e-4)
    reached: Counter[Candidate] = Counter()
    for name, share in zip(names, chances, strict=True):
        reached[edits.result(name)] += share
    wanted, log_z = exact.target(2.0 * net.log_scalarise(weights, rewards(list(reached))))
    assert exact.distance(np.array([*reached.values()]), wanted) < 0.15
    assert net.log_z(repeated(weights, 1, 2.0))[0] == pytest.approx(log_z, abs=0.15)


def hash_of(candidate: Candidate) -> int:
    return int(candidate.digest[:8], 16)
