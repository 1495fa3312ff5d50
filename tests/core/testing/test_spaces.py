from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from orchestrate.core import Candidate, Choose, SearchSpace, Shape
from orchestrate.core.testing import ContractError, check_space
from tests.core.testing.examples import Networks, Three

if TYPE_CHECKING:
    from torch import nn

SHAPE = Shape((1, 8, 8), 3)


class Base(SearchSpace):
    """A space to break."""

    name = "base"
    summary = "a space"

    def choices(self, choose: Choose) -> None:
        choose.categorical("a", ["x", "y"])


class Moody(Base):
    """Depends on how often it was walked."""

    walks = count()

    def choices(self, choose: Choose) -> None:
        choose.integer(f"a{next(self.walks) % 2}", 0, 3)


class Shifting(Base):
    """Offers one name with two lists."""

    def choices(self, choose: Choose) -> None:
        kind = choose.categorical("kind", ["x", "y"])
        choose.categorical("size", [1, 2] if kind == "x" else [1, 2, 3])


class Twice(Base):
    """Makes a choice twice on one branch."""

    def choices(self, choose: Choose) -> None:
        if choose.integer("a", 0, 1):
            choose.integer("a", 0, 1)


class Partial(Base):
    """Fails on the highest answer."""

    def choices(self, choose: Choose) -> None:
        ["only", "two"][choose.integer("a", 0, 2)]


class Miscounted(Base):
    """Says that it has more candidates than it has."""

    def size(self) -> int:
        return 3


class Undercounted(Base):
    """Says that it has fewer candidates than it has."""

    def size(self) -> int:
        return 1


class Endless(Base):
    """Counts real numbers."""

    def choices(self, choose: Choose) -> None:
        choose.real("a", 0, 1)

    def size(self) -> int:
        return 100


@pytest.mark.parametrize(
    ("space", "rule"),
    [
        (Moody(), "must replay|other choices"),
        (Shifting(), r"offers \[1, 2, 3\]|offers \[1, 2\]"),
        (Twice(), "accept every answer.*twice in one walk"),
        (Partial(), "accept every answer.*IndexError"),
        (Miscounted(), "the enumeration gives 2"),
        (Undercounted(), "2 different candidates were drawn"),
        (Endless(), "must be enumerable"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_rule_is_named(space: SearchSpace, rule: str) -> None:
    with pytest.raises(ContractError, match=rule):
        check_space(space)


class WrongClasses(Networks):
    """Has a logit too many."""

    def build(self, candidate: Candidate, shape: Shape) -> nn.Module:
        return super().build(candidate, Shape(shape.input, shape.classes + 1))


class Unseeded(Networks):
    """Draws parameters from a generator of its own."""

    draws = count()

    def build(self, candidate: Candidate, shape: Shape) -> nn.Module:
        import torch

        torch.manual_seed(next(self.draws))
        return super().build(candidate, shape)


class Frozen(Networks):
    """Passes no gradient on."""

    def build(self, candidate: Candidate, shape: Shape) -> nn.Module:
        return super().build(candidate, shape).requires_grad_(False)


class Unbuildable(Networks):
    """Can't be built for any input."""

    def build(self, candidate: Candidate, shape: Shape) -> nn.Module:
        raise RuntimeError("too small an image")


class Infinite(Networks):
    """Computes NaN."""

    def build(self, candidate: Candidate, shape: Shape) -> nn.Module:
        import torch

        model: Any = super().build(candidate, shape)
        with torch.no_grad():
            model[-1].bias.fill_(float("nan"))
        return model


@pytest.mark.parametrize(
    ("space", "rule"),
    [
        (WrongClasses(), r"must map \(N, \*input\) to \(N, 3\)"),
        (Unseeded(), "differs between two builds"),
        (Frozen(), "built and run.*grad|no parameter that a gradient"),
        (Unbuildable(), "too small an image"),
        (Infinite(), "NaN or infinity"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_network_is_named(space: SearchSpace, rule: str) -> None:
    with pytest.raises(ContractError, match=rule):
        check_space(space, SHAPE)


def test_sound_spaces_pass() -> None:
    check_space(Networks(), SHAPE)
    check_space(Three())
