"""Contract of search spaces."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice

from ..candidate import Candidate, Value
from ..draw import draw
from ..errors import SpaceError
from ..seeds import generator
from ..space import Categorical, Choice, Choose, Real, SearchSpace, enumerate_candidates, replay
from ..task import Shape
from .contract import only, refuses, require
from .plugins import check_class

SMALL = 2000
"""Spaces up to this size are enumerated whole."""


class ExampleSpace(SearchSpace):
    """A small space with every type of choice and a branch, for checking other plugins."""

    name = "example"
    summary = "every type of choice, and a branch"

    def choices(self, choose: Choose) -> None:
        kind = choose.categorical("kind", ["a", "b", "c"])
        choose.real("rate", 1e-4, 1e-1, log=True)
        choose.integer("width", 8, 64, log=True)
        if kind != "a":
            choose.integer("depth", 1, 7, step=2)
            choose.real("share", 0.0, 1.0)


def check_space(space: SearchSpace, shape: Shape | None = None, *, walks: int = 50) -> None:
    """Check a search space.

    Rules: walks are deterministic in the answers; the lowest, the highest and random answers are all
    accepted; a candidate survives JSON and replays to itself; a name keeps its option list; `size()`
    agrees with the enumeration where that is small; `build` maps (N, *shape.input) to finite logits
    (N, classes), reproducibly from torch's seed, and gradients reach its parameters.

    Args:
        space: the space, with its options.
        shape: the input that networks are built for; 1 x 28 x 28 with 10 classes by default.
        walks: how many random candidates to look at.

    Raises:
        ContractError: a rule is broken.
    """
    check_class(type(space))
    options: dict[str, tuple[Value, ...]] = {}
    seen: dict[Candidate, None] = {}
    for pick in (_lowest, _highest, *(_random(seed) for seed in range(walks))):
        choices: list[Choice] = []
        with only(
            f"space {space.name!r} must accept every answer that it offers",
            "Mend `choices`",
        ):
            candidate = space.generate(_recording(pick, choices))
        seen[candidate] = None
        for choice in choices:
            if isinstance(choice, Categorical):
                known = options.setdefault(choice.name, choice.options)
                require(
                    known == choice.options,
                    f"choice {choice.name!r} offers {list(choice.options)} and elsewhere {list(known)}",
                    "Where options depend on earlier choices, let the name depend on them too",
                )
        _check_replay(space, candidate, choices)
    _check_size(space, list(seen))
    if space.builds:
        for candidate in islice(seen, 3):
            _check_build(space, candidate, shape or Shape((1, 28, 28), 10))
    else:
        require(
            refuses(lambda: space.build(next(iter(seen)), Shape((1, 28, 28), 10)), SpaceError),
            f"space {space.name!r} builds no networks, so `build` must raise SpaceError",
            "Leave `build` out",
        )


def _check_replay(space: SearchSpace, candidate: Candidate, choices: list[Choice]) -> None:
    again: list[Choice] = []
    with only(
        "a candidate read back from its JSON must replay",
        "Let `choices` depend on the answers only",
    ):
        recorded = json.loads(candidate.json)
        space.generate(_recording(lambda choice: candidate[choice.name], again))
        require(
            replay(space, recorded) == candidate,
            "a candidate read back from its JSON must replay to itself",
            "Let `choices` depend on the answers only",
        )
    require(
        again == choices,
        f"the same answers led to other choices: {_difference(choices, again)}",
        "Let `choices` depend on the answers only: no clock, no random number, no state",
    )


def _check_size(space: SearchSpace, seen: list[Candidate]) -> None:
    size = space.size()
    require(
        size is None or size >= len(seen),
        f"size() is {size}, and {len(seen)} different candidates were drawn",
        "Return the number of candidates, or None when they can't be counted",
    )
    if size is None or size > SMALL:
        return
    with only("size() is a number, so the space must be enumerable", "Return None with a real choice"):
        listed = list(islice(enumerate_candidates(space), size + 1))
    require(
        len(listed) == size == len(set(listed)),
        f"size() is {size}, and the enumeration gives {'more' if len(listed) > size else len(set(listed))}",
        "Mend size()",
    )


def _check_build(space: SearchSpace, candidate: Candidate, shape: Shape) -> None:
    import torch

    def make() -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
            torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
            return space.build(candidate, shape)

    inputs = torch.randn(4, *shape.input, generator=torch.Generator().manual_seed(0))
    what = f"the network of {candidate}"
    with only(f"{what} must be built and run for inputs {shape.input}", "Mend `build`"):
        first, second = make(), make()
        logits = first.eval()(inputs)
        repeated = second.eval()(inputs)
        first.train()(inputs).square().sum().backward()
    require(
        tuple(logits.shape) == (4, shape.classes),
        f"{what} must map (N, *input) to (N, {shape.classes}), and gives {tuple(logits.shape)} for N = 4",
        "Return logits",
    )
    require(torch.isfinite(logits).all(), f"{what} gives NaN or infinity", "Mend its initialisation")
    require(
        torch.equal(logits, repeated),
        f"{what} differs between two builds from one seed",
        "Draw parameters from torch's default generator only",
    )
    require(
        any(parameter.grad is not None for parameter in first.parameters()),
        f"{what} has no parameter that a gradient reaches",
        "Keep the graph: no detach, no no_grad in forward",
    )


def _recording(pick: Callable[[Choice], Value], choices: list[Choice]) -> Callable[[Choice], Value]:
    def answer(choice: Choice) -> Value:
        choices.append(choice)
        return pick(choice)

    return answer


def _random(seed: int) -> Callable[[Choice], Value]:
    rng = generator(seed)
    return lambda choice: draw(choice, rng)


def _lowest(choice: Choice) -> Value:
    return choice.options[0] if isinstance(choice, Categorical) else choice.low


def _highest(choice: Choice) -> Value:
    if isinstance(choice, Categorical):
        return choice.options[-1]
    return choice.high if isinstance(choice, Real) else choice.high - (choice.high - choice.low) % choice.step


def _difference(before: list[Choice], after: list[Choice]) -> str:
    for one, other in zip(before, after, strict=False):
        if one != other:
            return f"first {one}, then {other}"
    return f"first {len(before)} of them, then {len(after)}"
