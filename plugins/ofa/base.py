"""What the three spaces share: genes, their fixed names and option lists, and networks made from plans.

A candidate holds its active genes alone (blocks beyond a stage's depth have none), so candidates are
canonical: equal networks have equal digests, and nothing inert is counted, encoded or mutated.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias, cast

from pydantic import Field, PositiveInt
from typing_extensions import TypeVar

from ...core import (
    Candidate,
    Categorical,
    Choice,
    Choose,
    PluginOptions,
    SearchSpace,
    Shape,
    SpaceError,
    Value,
)
from .plan import Bottleneck, MBConv, Norm, Plan

if TYPE_CHECKING:
    from torch import nn

Preset: TypeAlias = Literal["imagenet", "small", "tiny"]
RESOLUTION = "resolution"


class OnceForAllOptions(PluginOptions):
    """Options of all three spaces."""

    preset: Preset = Field(
        default="imagenet",
        description="`imagenet`: the paper's; `small` for images of about 28x28; `tiny` for 8x8.",
    )
    resolutions: tuple[PositiveInt, ...] | None = Field(
        default=None, min_length=1, description="Input sizes to choose from; by default the preset's."
    )
    depths: tuple[PositiveInt, ...] | None = Field(
        default=None,
        min_length=1,
        description="Blocks of an elastic stage (`ofa-resnet50d`: added to its base).",
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout before the classifier.")
    norm: Literal["batch", "group"] = Field(default="batch", description="Normalisation layers.")
    group_channels: PositiveInt = Field(
        default=8, description="Channels of a group with `norm: group`; must divide every width."
    )
    weight_standardization: bool = Field(
        default=False, description="Standardise each filter's weights (1903.10520)."
    )
    zero_last_scale: bool = Field(
        default=False, description="Start each residual block's last normalisation with scale 0."
    )
    kernel_transform: bool = Field(
        default=True, description="Learn matrices that turn a kernel into the next smaller; else crop it."
    )


@dataclass(frozen=True)
class Gene:
    """A choice with more than one option, as it appears in the longest walk."""

    name: str
    options: tuple[Value, ...]

    @property
    def kind(self) -> str:
        """`resolution`, `depth`, `kernel`, `expand`, `width` or `residual`."""
        return self.name.rpartition(".")[2]


SpaceOptionsT = TypeVar(  # noqa: PLC0105 - a plugin author sees the plain name
    "SpaceOptionsT", bound=OnceForAllOptions, default=OnceForAllOptions, covariant=True
)


class OnceForAll(SearchSpace[SpaceOptionsT]):
    """A space whose networks are sub-nets of its largest one.

    Options of every gene are sorted, so that the last is the largest.
    """

    momentum: ClassVar[float] = 0.1
    eps: ClassVar[float] = 1e-5

    @abstractmethod
    def plan(self, candidate: Mapping[str, Value], shape: Shape) -> Plan:
        """The candidate's network, layer by layer."""

    @property
    @abstractmethod
    def resolutions(self) -> tuple[int, ...]:
        """Input sizes, ascending."""

    @abstractmethod
    def kernels(self, at: str) -> tuple[int, ...]:
        """Kernel sizes of the block `at`, ascending; empty where they are fixed."""

    def build(self, candidate: Candidate, shape: Shape) -> nn.Module:
        from .network import Network

        return Network(self.plan(candidate, shape), zero_last_scale=self.options.zero_last_scale)

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """Every gene of the space, in the order of the longest walk."""
        found: list[Gene] = []

        def last(choice: Choice) -> Value:
            assert isinstance(choice, Categorical)
            found.append(Gene(choice.name, choice.options))
            return choice.options[-1]

        self.generate(last)
        return tuple(found)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of gene in the space, in order, each once."""
        return tuple(dict.fromkeys(gene.kind for gene in self.genes))

    def corner(self, largest: Callable[[str], bool]) -> Candidate:
        """The candidate with the largest or the smallest option of every gene, by its kind."""

        def pick(choice: Choice) -> Value:
            assert isinstance(choice, Categorical)
            return choice.options[-1 if largest(choice.name.rpartition(".")[2]) else 0]

        return self.generate(pick)

    @cached_property
    def largest(self) -> Candidate:
        """The candidate whose network contains all others."""
        return self.corner(lambda kind: True)  # noqa: ARG005

    @cached_property
    def smallest(self) -> Candidate:
        """The candidate with the smallest option everywhere."""
        return self.corner(lambda kind: False)  # noqa: ARG005

    def read(self, candidate: Mapping[str, Value], name: str, options: Sequence[Value]) -> Value:
        """The candidate's answer, or the only option of what is no choice.

        Raises:
            SpaceError: the candidate is of another space, or gives a value that isn't offered.
        """
        if len(options) == 1:
            return options[0]
        value = candidate.get(name)
        if value not in options:
            raise SpaceError(
                f"{name} is {value!r} in a candidate of space {self.name!r}, which offers {list(options)}"
            )
        return value

    def resolution(self, candidate: Mapping[str, Value]) -> int:
        """The side that the candidate's network scales its input to."""
        return cast(int, self.read(candidate, RESOLUTION, self.resolutions))

    @property
    def norm(self) -> Norm:
        """The normalisation layers of all networks."""
        options = self.options
        return Norm(
            options.norm, self.momentum, self.eps, options.group_channels, options.weight_standardization
        )

    def check(self, plan: Plan) -> Plan:
        """Refuse widths that groups of channels don't divide.

        Raises:
            SpaceError: with the width.
        """
        if self.options.norm == "group":
            for layer in plan.layers:
                for width in (getattr(layer, "outputs", 0), getattr(layer, "middle", 0)):
                    if isinstance(layer, MBConv | Bottleneck) and width % self.options.group_channels:
                        raise SpaceError(
                            f"group_channels {self.options.group_channels} doesn't divide the {width} "
                            f"channels at {layer.at}: take 8, 4 or 2"
                        )
        return plan


def offer(choose: Choose, name: str, options: Sequence[Value]) -> Value:
    """Make a choice, unless there is only one option."""
    return choose.categorical(name, options) if len(options) > 1 else options[0]


def ascending(values: Sequence[int] | Sequence[float], what: str) -> tuple[int, ...] | tuple[float, ...]:
    """Sort option values.

    Raises:
        SpaceError: one comes twice.
    """
    if len(set(values)) < len(values):
        raise SpaceError(f"{what} lists a value twice: {list(values)}")
    return tuple(sorted(values))  # type: ignore[return-value]
