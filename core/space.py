"""A search space is a program that makes choices.

`SearchSpace.choices` is plain Python: `if` and `for` make it conditional and hierarchical. Whoever
picks the values (a sampler, a recorded candidate, an enumeration) sees one `Choice` at a time.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, TypeAlias, TypeVar

from .candidate import Candidate, Value
from .errors import SpaceError
from .plugin import Kind, OptionsT, Plugin

if TYPE_CHECKING:
    from torch import nn

    from .task import Shape

ValueT = TypeVar("ValueT", str, int, float, bool, None, Value)


@dataclass(frozen=True)
class Categorical:
    """One of a fixed list of scalars. A name keeps its list throughout a space."""

    name: str
    options: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.options:
            raise SpaceError(f"choice {self.name!r} has no options")
        if len({(type(option), option) for option in self.options}) < len(self.options):
            raise SpaceError(f"choice {self.name!r} lists an option twice: {list(self.options)}")

    def __contains__(self, value: object) -> bool:
        for option in self.options:  # a plain loop: spaces are walked millions of times
            if option is value or (type(option) is type(value) and option == value):
                return True
        return False

    @property
    def values(self) -> Sequence[Value] | None:
        """Every value, in order."""
        return self.options


@dataclass(frozen=True)
class Integer:
    """A whole number in [low, high], both ends included, on a grid of `step` from `low`."""

    name: str
    low: int
    high: int
    step: int = 1
    log: bool = False

    def __post_init__(self) -> None:
        if self.low > self.high or self.step < 1:
            raise SpaceError(f"choice {self.name!r} needs low <= high and step >= 1, got {self}")
        if self.log and (self.low < 1 or self.step != 1):
            raise SpaceError(f"choice {self.name!r} with log=True needs low >= 1 and step 1, got {self}")

    def __contains__(self, value: object) -> bool:
        return (
            isinstance(value, int)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
            and (value - self.low) % self.step == 0
        )

    @property
    def values(self) -> Sequence[Value] | None:
        """Every value, in order."""
        return range(self.low, self.high + 1, self.step)


@dataclass(frozen=True)
class Real:
    """A real number in [low, high], uniform in its value or, with `log`, in its logarithm."""

    name: str
    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise SpaceError(f"choice {self.name!r} needs finite low <= high, got {self}")
        if self.log and self.low <= 0:
            raise SpaceError(f"choice {self.name!r} with log=True needs low > 0, got {self}")

    def __contains__(self, value: object) -> bool:
        return isinstance(value, float) and self.low <= value <= self.high

    @property
    def values(self) -> Sequence[Value] | None:
        """None: a continuum can't be listed, unless it is a single point."""
        return (self.low,) if self.low == self.high else None


Choice: TypeAlias = Categorical | Integer | Real
Pick: TypeAlias = Callable[[Choice], Value]
"""Answers one choice with one of its values. A sampler is, at heart, such a function."""


class Choose:
    """What a space's program receives: it offers choices, records the answers, refuses wrong ones."""

    def __init__(self, pick: Pick) -> None:
        self._pick = pick
        self._made: dict[str, Value] = {}

    @property
    def made(self) -> Mapping[str, Value]:
        """The choices made so far, in order."""
        return self._made

    def categorical(self, name: str, options: Sequence[ValueT]) -> ValueT:
        """Choose one of `options` (JSON scalars; the same list whenever this name is offered)."""
        listed = tuple(options)
        return self._answer(_categorical(name, listed, tuple(map(type, listed))))  # type: ignore[return-value]

    def integer(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Choose a whole number in [low, high], both included."""
        return self._answer(Integer(name, low, high, step, log))  # type: ignore[return-value]

    def real(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Choose a real number in [low, high]."""
        return self._answer(Real(name, float(low), float(high), log))  # type: ignore[return-value]

    def _answer(self, choice: Choice) -> Value:
        if choice.name in self._made:
            raise SpaceError(f"choice {choice.name!r} is made twice in one walk: give each its own name")
        value = self._pick(choice)
        if value not in choice:
            raise SpaceError(f"{value!r} is no answer to {choice}")
        self._made[choice.name] = value
        return value


@lru_cache(maxsize=4096)
def _categorical(name: str, options: tuple[Value, ...], types: tuple[type, ...]) -> Categorical:
    """Make a choice once for all walks. `types` tells 1 from True, which are equal."""
    del types
    return Categorical(name, options)


class SearchSpace(Plugin[OptionsT]):
    """A set of candidates, described by the program that draws one.

    A subclass writes `choices`; a space of networks writes `build` too.
    """

    kind: ClassVar[Kind] = "space"
    counting_limit: ClassVar[int] = 100_000

    @abstractmethod
    def choices(self, choose: Choose) -> None:
        """Make every choice of one candidate, in a fixed order given the earlier answers.

        Must be deterministic in the answers: no clock, no random number, no state.
        """

    def generate(self, pick: Pick) -> Candidate:
        """Walk the space with `pick` answering each choice.

        Raises:
            SpaceError: a name offered twice, or an answer outside its choice.
        """
        choose = Choose(pick)
        self.choices(choose)
        return Candidate(choose.made)

    def size(self) -> int | None:
        """Count the candidates, or None when they can't be counted.

        The default walks them all, up to `counting_limit`; a large space overrides it in closed form.
        """
        count = 0
        try:
            for _ in enumerate_candidates(self):
                count += 1
                if count > self.counting_limit:
                    return None
        except SpaceError:
            return None
        return count

    def build(self, candidate: Candidate, shape: Shape) -> nn.Module:
        """Build the candidate's network for inputs of `shape.input` (C, H, W) and `shape.classes` outputs.

        Parameters are drawn from torch's default generator, which the caller seeds. The network maps
        (N, C, H, W) to logits (N, classes).

        Raises:
            SpaceError: the space's candidates are not networks.
        """
        raise SpaceError(
            f"space {self.name!r} builds no networks, so no objective or program that needs one "
            "(flops, parameters, latency, train) can be used with it"
        )

    @property
    def builds(self) -> bool:
        """Whether candidates are networks, that is, whether `build` is written."""
        return type(self).build is not SearchSpace.build


def replay(space: SearchSpace, choices: Mapping[str, Value]) -> Candidate:
    """Walk the space along recorded choices.

    Raises:
        SpaceError: a choice is missing, superfluous or not allowed: the record isn't of this space.
    """

    def pick(choice: Choice) -> Value:
        if choice.name not in choices:
            raise SpaceError(f"the recorded candidate has no answer to {choice}")
        return choices[choice.name]

    candidate = space.generate(pick)
    extra = [name for name in choices if name not in candidate]
    if extra:
        raise SpaceError(f"the recorded candidate makes choices the space never offers: {extra}")
    return candidate


def enumerate_candidates(space: SearchSpace) -> Iterator[Candidate]:
    """Yield every candidate once, in lexicographic order of the choices (the last varies fastest).

    Raises:
        SpaceError: a real-valued choice, which has no end of values.
    """
    prefix: list[int] = []  # index of the value taken at each depth
    while True:
        widths: list[int] = []

        def pick(choice: Choice, widths: list[int] = widths) -> Value:
            values = choice.values
            if values is None:
                raise SpaceError(f"{choice} has no end of values, so the space can't be enumerated")
            depth = len(widths)
            if depth == len(prefix):
                prefix.append(0)
            widths.append(len(values))
            return values[prefix[depth]]

        yield space.generate(pick)
        while prefix and prefix[-1] + 1 >= widths[len(prefix) - 1]:
            prefix.pop()
        if not prefix:
            return
        prefix[-1] += 1


class NoSpace(SearchSpace):
    """The space of the one empty candidate: for stages that search nothing."""

    name: ClassVar[str] = "none"
    summary: ClassVar[str] = "the single empty candidate"

    def choices(self, choose: Choose) -> None:
        """Choose nothing."""
