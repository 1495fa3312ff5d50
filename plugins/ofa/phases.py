"""The phase graph of a supernet's training: what is elastic when, how it is drawn, who teaches.

A phase starts from the weights at the end of the phase before it, or of the one that `after` names, and
`teacher` names the phase whose last weights teach: so progressive shrinking, the sandwich rule and training
from a warm start are lists of phases for one trainer. Needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from ...core import Candidate, Categorical, Choice, PluginOptions, Shape, SpecError, Value
from ...core.errors import near_misses
from . import cost
from .base import RESOLUTION, OnceForAll

Method: TypeAlias = Literal["progressive-shrinking", "sandwich", "warm-start", "scratch", "scratch-distilled"]
START = "start"
"""Name of the weights before the first phase."""
IN_PLACE = "in-place"
FOLLOWS = {"residual": "depth"}
"""Kinds of gene that become elastic together with another."""
BALANCE = 8
"""Draws of which `balanced` keeps the one nearest to its target cost."""


class PhaseOptions(PluginOptions):
    """One phase."""

    name: str = Field(min_length=1, description="Name; `start` is taken.")
    after: str | None = Field(
        default=None,
        description="Phase whose last weights this one starts from, or `start`; by default the one before.",
    )
    elastic: Mapping[str, PositiveInt | Literal["all"]] = Field(
        default_factory=dict[str, PositiveInt | Literal["all"]],
        description="Kind of gene (depth, kernel, expand, width, resolution): how many of its largest "
        "values are drawn; what isn't named stays as in the phase it starts from.",
    )
    only: Mapping[str, tuple[float, ...]] = Field(
        default_factory=dict[str, tuple[float, ...]],
        description="Gene or pattern (`stage1.*.kernel`): the only values drawn.",
    )
    epochs: PositiveInt = Field(description="Passes over the training split.")
    learning_rate: PositiveFloat | None = Field(
        default=None, description="Highest learning rate; by default the program's."
    )
    warmup: float = Field(default=0.0, ge=0, lt=1, description="Share of the phase with a rising rate.")
    subnets: PositiveInt = Field(default=1, description="Sub-nets in a step.")
    sampler: Literal["uniform", "sandwich", "balanced", "largest"] = Field(
        default="uniform",
        description="`uniform`: each gene; `sandwich`: the largest, the smallest and uniform ones "
        "(1903.05134); `balanced`: uniform in cost; `largest`: always the largest.",
    )
    teacher: str | None = Field(
        default=None,
        description="Who teaches: a phase (its last weights, largest network), `start`, or `in-place` "
        "(the step's first sub-net; with the sandwich rule the largest).",
    )
    distillation: Literal["soft", "logits"] = Field(
        default="soft", description="Match the teacher's probabilities, or its logits (squared error)."
    )
    distillation_weight: NonNegativeFloat = Field(default=1.0, description="Weight of the teacher's part.")
    temperature: PositiveFloat = Field(default=1.0, description="Temperature of soft distillation.")
    hard_labels: bool = Field(
        default=True, description="Whether taught sub-nets learn from the labels too (BigNAS: no)."
    )
    sort: tuple[Literal["inner", "outer"], ...] = Field(
        default=(),
        description="Sort channels before the phase: `inner` (expansions) and `outer` (stage widths), "
        "within the bands of the widths trained so far.",
    )


@dataclass(frozen=True)
class Offer:
    """The values that a phase draws from, gene by gene."""

    space: OnceForAll
    values: Mapping[str, tuple[Value, ...]]

    @classmethod
    def of(cls, space: OnceForAll, counts: Mapping[str, int], only: Mapping[str, Sequence[Value]]) -> Offer:
        """Each gene's `counts[kind]` largest options (one by default), less what `only` forbids."""
        values: dict[str, tuple[Value, ...]] = {}
        for gene in space.genes:
            count = counts.get(FOLLOWS.get(gene.kind, gene.kind), 1)
            options: tuple[Value, ...] = gene.options[-count:]
            for pattern, wanted in only.items():
                if fnmatchcase(gene.name, pattern):
                    options = tuple(option for option in options if option in wanted)
            if not options:
                raise SpecError(f"no value is left for {gene.name}, which offers {list(gene.options)}")
            values[gene.name] = options
        return cls(space, values)

    def offers(self, name: str, value: Value) -> bool:
        """Whether a gene may have a value."""
        return value in self.values[name]

    def generate(self, pick: Callable[[tuple[Value, ...]], Value]) -> Candidate:
        """The candidate whose genes `pick` chooses from the values offered."""

        def answer(choice: Choice) -> Value:
            assert isinstance(choice, Categorical)
            return pick(self.values[choice.name])

        return self.space.generate(answer)

    def draw(self, rng: np.random.Generator) -> Candidate:
        """Draw every gene independently and uniformly."""
        return self.generate(lambda values: values[int(rng.integers(len(values)))])

    @cached_property
    def largest(self) -> Candidate:
        """The largest value of every gene."""
        return self.generate(lambda values: values[-1])

    @cached_property
    def smallest(self) -> Candidate:
        """The smallest value of every gene."""
        return self.generate(lambda values: values[0])

    def fixed(self, resolution: int) -> Offer:
        """The same at one resolution."""
        if RESOLUTION not in self.values:
            return self
        return Offer(self.space, {**self.values, RESOLUTION: (resolution,)})


def draw_round(offer: Offer, phase: PhaseOptions, shape: Shape, rng: np.random.Generator) -> list[Candidate]:
    """Draw a step's sub-nets, all at one resolution.

    Who seeds `rng` by phase and step gets the same ones on every worker.
    """
    sizes = offer.values.get(RESOLUTION, (0,))
    at = offer.fixed(int(sizes[int(rng.integers(len(sizes)))] or 0))
    if phase.sampler == "largest":
        return [at.largest] * phase.subnets
    if phase.sampler == "sandwich":
        rest = [at.draw(rng) for _ in range(phase.subnets - 2)]
        return [at.largest, at.smallest, *rest][: phase.subnets]
    if phase.sampler == "balanced":
        return [_balanced(at, shape, rng) for _ in range(phase.subnets)]
    return [at.draw(rng) for _ in range(phase.subnets)]


def _balanced(offer: Offer, shape: Shape, rng: np.random.Generator) -> Candidate:
    def macs(candidate: Candidate) -> int:
        return cost.macs(offer.space.plan(candidate, shape))

    target = rng.uniform(macs(offer.smallest), macs(offer.largest))
    drawn = [offer.draw(rng) for _ in range(BALANCE)]
    return min(drawn, key=lambda candidate: abs(macs(candidate) - target))


@dataclass(frozen=True)
class Phase:
    """A phase in its place: what it starts from, what it draws, what was trained before it."""

    index: int
    options: PhaseOptions
    after: str
    offer: Offer
    trained: Offer
    """What was drawn before the phase: the widths that sorting must keep."""


def resolve(
    space: OnceForAll, phases: Sequence[PhaseOptions], start: Mapping[str, int] | None = None
) -> list[Phase]:
    """Put the phases in their places.

    Args:
        space: the space.
        phases: in the order in which they run.
        start: kinds that are elastic in the weights before the first phase, and how far.

    Raises:
        SpecError: a name that is missing, taken or unknown, or a kind that the space hasn't.
    """
    resolution = {RESOLUTION: len(space.resolutions)}
    counts: dict[str, dict[str, int]] = {START: {**resolution, **(start or {})}}
    offers: dict[str, Offer] = {START: Offer.of(space, counts[START], {})}
    found: list[Phase] = []
    lengths = {gene.kind: len(gene.options) for gene in space.genes}
    for index, phase in enumerate(phases):
        if phase.name in counts or phase.name == IN_PLACE:
            raise SpecError(f"a second phase called {phase.name!r}: give each its own name")
        after = phase.after or (phases[index - 1].name if index else START)
        for known, role in ((after, "after"), (phase.teacher, "teacher")):
            if known not in (None, IN_PLACE, *counts):
                raise SpecError(
                    f"phase {phase.name!r}: {role} {known!r} is no earlier phase. "
                    f"{near_misses(str(known), counts)}"
                )
        if after == IN_PLACE:
            raise SpecError(f"phase {phase.name!r}: `after` names a phase, and 'in-place' is none")
        for kind in phase.elastic:
            if kind not in lengths:
                raise SpecError(
                    f"phase {phase.name!r}: space {space.name!r} has no elastic {kind!r}. "
                    f"{near_misses(kind, lengths)}"
                )
        if "outer" in phase.sort and "width" not in lengths:
            raise SpecError(
                f"phase {phase.name!r}: space {space.name!r} has no widths to sort: leave `outer` out"
            )
        own = {kind: lengths[kind] if n == "all" else n for kind, n in phase.elastic.items()}
        counts[phase.name] = {**counts[after], **own}
        offers[phase.name] = Offer.of(space, counts[phase.name], phase.only)
        found.append(Phase(index, phase, after, offers[phase.name], offers[after]))
    return found


def method_phases(space: OnceForAll, method: Method, epochs: int, rate: float) -> list[PhaseOptions]:
    """The phases of a method.

    Progressive shrinking has the paper's order, sub-nets a step and ratios of epochs (180 for the
    full net, then 125, and 25 before 125 where values come in two steps). Its learning rates suit short
    trainings; the paper's own are in the documentation. The other methods get as many sub-net passes.

    Args:
        space: whose genes become elastic.
        method: which.
        epochs: of the full net.
        rate: highest learning rate of the full net.
    """
    full = PhaseOptions(name="full", epochs=epochs, learning_rate=rate)
    shrinking = [full, *_shrinking(space, epochs, rate)]
    if method == "progressive-shrinking":
        return shrinking
    passes = sum(phase.epochs * phase.subnets for phase in shrinking)
    everything = {kind: "all" for kind in space.kinds if kind not in FOLLOWS}

    def whole(name: str, passes: int, **changes: object) -> PhaseOptions:
        data = {"name": name, "epochs": max(1, round(passes / 4)), "subnets": 4, "elastic": everything}
        return PhaseOptions.model_validate({**data, "learning_rate": rate, **changes})

    if method == "sandwich":
        return [whole("sandwich", passes, sampler="sandwich", teacher=IN_PLACE, hard_labels=False)]
    if method == "scratch":
        return [whole("scratch", passes)]
    if method == "scratch-distilled":  # its teacher's training comes on top
        return [full, whole("scratch", passes, after=START, teacher="full")]
    return [full, whole("whole", passes - epochs, teacher="full", sort=_sorts(space))]


def _shrinking(space: OnceForAll, epochs: int, rate: float) -> Iterator[PhaseOptions]:
    lengths = {gene.kind: len(gene.options) for gene in space.genes}

    def phase(name: str, kind: str, count: int, share: float, **changes: object) -> PhaseOptions:
        data = {"name": name, "elastic": {kind: count}, "epochs": max(1, math.ceil(epochs * share))}
        return PhaseOptions.model_validate({**data, "teacher": "full", **changes})

    if "kernel" in lengths:
        yield phase("kernel", "kernel", lengths["kernel"], 125 / 180, learning_rate=rate * 0.5)
    for kind, subnets, sort in (("depth", 2, ()), ("expand", 4, ("inner",)), ("width", 4, ("outer",))):
        most = lengths.get(kind, 1)
        for count in range(2, most + 1):
            last = count == most
            share, factor = (125 / 180, 1.0) if last else (25 / 180, 0.3)
            name = kind if last else f"{kind}-{count}"
            yield phase(name, kind, count, share, learning_rate=rate * factor, subnets=subnets, sort=sort)


def _sorts(space: OnceForAll) -> tuple[str, ...]:
    return ("inner", "outer") if "width" in space.kinds else ("inner",)


def corners(space: OnceForAll) -> dict[str, Candidate]:
    """The eight networks with the smallest or largest option in each of three kinds of gene.

    At the largest resolution; labelled like `depth_max-expand_min-kernel_max`, smallest
    first and largest last. The kinds are depth, expansion and
    kernel, or, where kernels are fixed, stage width.
    """
    kinds = [kind for kind in ("depth", "expand", "kernel", "width") if kind in space.kinds][:3]
    found: dict[str, Candidate] = {}
    for number in range(2 ** len(kinds)):
        signs = {kind: bool(number >> place & 1) for place, kind in enumerate(kinds)}

        def largest(kind: str, signs: Mapping[str, bool] = signs) -> bool:
            return signs.get(FOLLOWS.get(kind, kind), True)

        label = "-".join(f"{kind}_{'max' if sign else 'min'}" for kind, sign in signs.items())
        found[label] = space.corner(largest)
    return found
