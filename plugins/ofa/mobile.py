"""The two mobile spaces: stages of inverted residual blocks, elastic in depth, kernel and expansion."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, cast

from pydantic import Field, PositiveInt, model_validator

from ...core import Choose, Shape, Value
from .base import RESOLUTION, OnceForAll, OnceForAllOptions, Preset, ascending, offer
from .plan import Activation, Classifier, Conv, GlobalPool, Layer, MBConv, Plan, halved, rounded


class MobileOptions(OnceForAllOptions):
    """Options of the mobile spaces."""

    width_multiplier: float | None = Field(
        default=None,
        gt=0,
        description="Factor of all widths; by default the released one (1.0; Proxyless 1.3).",
    )
    kernels: tuple[PositiveInt, ...] | None = Field(
        default=None, min_length=1, description="Odd kernel sizes; a stage drops those too large for its map."
    )
    expansions: tuple[PositiveInt, ...] | None = Field(
        default=None, min_length=1, description="Expansion ratios of a block's inside."
    )

    @model_validator(mode="after")
    def _odd(self) -> MobileOptions:
        if even := [kernel for kernel in self.kernels or () if kernel % 2 == 0]:
            raise ValueError(f"kernels must be odd, got {even}")
        return self


@dataclass(frozen=True)
class Stage:
    """A stage of blocks of equal width. A kernel beyond 2 * side - 1 would reach no pixel more."""

    width: int
    stride: int
    activation: Activation
    excite: bool = False
    elastic: bool = True
    """Whether the depth is; else the stage has one block."""


@dataclass(frozen=True)
class Layout:
    """A preset, at width multiplier 1."""

    stem: int
    stem_stride: int
    first: int
    """Width of the fixed block after the stem."""
    stages: tuple[Stage, ...]
    last: tuple[int, ...]
    """Widths of the 1x1 convolutions before the classifier."""
    depths: tuple[int, ...]
    kernels: tuple[int, ...]
    expansions: tuple[int, ...]
    resolutions: tuple[int, ...]


class MobileSpace(OnceForAll[MobileOptions]):
    """Blocks with an expansion, a depthwise kernel and a projection; a stage keeps its first blocks."""

    multiplier: ClassVar[float]
    activation: ClassVar[Activation]

    @property
    @abstractmethod
    def layouts(self) -> Mapping[Preset, Layout]:
        """The presets."""

    @abstractmethod
    def head(self, inputs: int, last: tuple[int, ...]) -> Iterator[Layer]:
        """The layers between the last stage and the classifier."""

    @cached_property
    def layout(self) -> Layout:
        """The preset with the options' changes and the width multiplier applied."""
        options = self.options
        base = self.layouts[options.preset]
        factor = self.multiplier if options.preset == "imagenet" else 1.0
        factor = options.width_multiplier if options.width_multiplier is not None else factor

        def wide(width: int) -> int:
            return rounded(width * factor)

        return replace(
            base,
            stem=wide(base.stem),
            first=wide(base.first),
            stages=tuple(replace(stage, width=wide(stage.width)) for stage in base.stages),
            last=tuple(map(wide, base.last)),
            depths=ascending(options.depths or base.depths, "depths"),
            kernels=ascending(options.kernels or base.kernels, "kernels"),
            expansions=ascending(options.expansions or base.expansions, "expansions"),
            resolutions=ascending(options.resolutions or base.resolutions, "resolutions"),
        )

    @property
    def resolutions(self) -> tuple[int, ...]:
        return self.layout.resolutions

    @cached_property
    def stage_kernels(self) -> tuple[tuple[int, ...], ...]:
        """Kernel sizes by stage: those that the stage's largest map has room for."""
        size = halved(max(self.resolutions), self.layout.stem_stride)
        found: list[tuple[int, ...]] = []
        for stage in self.layout.stages:
            # A stage's later blocks see a smaller map than its first; one list serves the stage.
            size = halved(size, stage.stride)
            fitting = tuple(kernel for kernel in self.layout.kernels if kernel <= 2 * size - 1)
            found.append(fitting or self.layout.kernels[:1])
        return tuple(found)

    def kernels(self, at: str) -> tuple[int, ...]:
        stage, _, block = at.partition("_")
        return self.stage_kernels[int(stage.removeprefix("stage")) - 1] if block else ()

    def depths(self, stage: Stage) -> tuple[int, ...]:
        """Depths of a stage."""
        return self.layout.depths if stage.elastic else (1,)

    def choices(self, choose: Choose) -> None:
        offer(choose, RESOLUTION, self.resolutions)
        for number, stage in enumerate(self.layout.stages, start=1):
            depth = cast(int, offer(choose, f"stage{number}.depth", self.depths(stage)))
            for block in range(1, depth + 1):
                offer(choose, f"stage{number}.block{block}.kernel", self.stage_kernels[number - 1])
                offer(choose, f"stage{number}.block{block}.expand", self.layout.expansions)

    def size(self) -> int:
        total = len(self.resolutions)
        for stage, kernels in zip(self.layout.stages, self.stage_kernels, strict=True):
            block = len(kernels) * len(self.layout.expansions)
            total *= sum(block**depth for depth in self.depths(stage))
        return total

    def plan(self, candidate: Mapping[str, Value], shape: Shape) -> Plan:
        layout = self.layout
        stem = Conv("stem", shape.input[0], layout.stem, 3, layout.stem_stride, self.activation)
        first_activation = layout.stages[0].activation
        first = MBConv("first", layout.stem, layout.stem, layout.first, 3, 1, first_activation, False, False)
        layers: list[Layer] = [stem, first]
        width = layout.first
        for number, stage in enumerate(layout.stages, start=1):
            depth = cast(int, self.read(candidate, f"stage{number}.depth", self.depths(stage)))
            for block in range(1, depth + 1):
                name = f"stage{number}.block{block}"
                kernel = self.read(candidate, f"{name}.kernel", self.stage_kernels[number - 1])
                expansion = cast(int, self.read(candidate, f"{name}.expand", layout.expansions))
                layers.append(
                    MBConv(
                        f"stage{number}_block{block}",
                        width,
                        rounded(width * expansion),
                        stage.width,
                        cast(int, kernel),
                        stage.stride if block == 1 else 1,
                        stage.activation,
                        stage.excite,
                        True,
                    )
                )
                width = stage.width
        layers += self.head(width, layout.last)
        classifier = Classifier("classifier", layout.last[-1], shape.classes, self.options.dropout)
        plan = Plan(
            self.name,
            shape.input[0],
            shape.classes,
            self.resolution(candidate),
            (*layers, classifier),
            self.norm,
        )
        return self.check(plan)


class OfaMobileNetV3(MobileSpace):
    """The MobileNetV3-based space of Once-for-All (1908.09791, section 4.1).

    Five stages of {2, 3, 4} blocks, each with kernel {3, 5, 7} and expansion {3, 4, 6}; 25 input
    sizes from 128 to 224: 5.4e20 networks. Squeeze-excite in stages 2, 4 and 5.
    """

    name = "ofa-mobilenetv3"
    summary = "sub-nets of a MobileNetV3 supernet: depth, kernel, expansion, resolution"
    multiplier = 1.0
    activation = "h-swish"

    @property
    def layouts(self) -> Mapping[Preset, Layout]:
        return {
            "imagenet": Layout(
                stem=16,
                stem_stride=2,
                first=16,
                stages=(
                    Stage(24, 2, "relu"),
                    Stage(40, 2, "relu", excite=True),
                    Stage(80, 2, "h-swish"),
                    Stage(112, 1, "h-swish", excite=True),
                    Stage(160, 2, "h-swish", excite=True),
                ),
                last=(960, 1280),
                depths=(2, 3, 4),
                kernels=(3, 5, 7),
                expansions=(3, 4, 6),
                resolutions=tuple(range(128, 225, 4)),
            ),
            "small": Layout(
                stem=8,
                stem_stride=2,
                first=8,
                stages=(
                    Stage(16, 1, "relu"),
                    Stage(24, 2, "relu", excite=True),
                    Stage(40, 2, "h-swish", excite=True),
                ),
                last=(120, 160),
                depths=(1, 2, 3),
                kernels=(3, 5, 7),
                expansions=(2, 3, 4),
                resolutions=(20, 24, 28),
            ),
            "tiny": Layout(
                stem=8,
                stem_stride=1,
                first=8,
                stages=(Stage(16, 2, "relu"), Stage(24, 1, "h-swish", excite=True)),
                last=(64, 64),
                depths=(1, 2, 3),
                kernels=(3, 5, 7),
                expansions=(2, 3, 4),
                resolutions=(6, 8),
            ),
        }

    def head(self, inputs: int, last: tuple[int, ...]) -> Iterator[Layer]:
        yield Conv("expand", inputs, last[0], 1, 1, "h-swish")
        yield GlobalPool("pool", last[0])
        yield Conv("mix", last[0], last[1], 1, 1, "h-swish", norm=False)


class OfaProxyless(MobileSpace):
    """The ProxylessNAS-based (MobileNetV2-like) space that the authors released, 1.3 times as wide.

    As `ofa-mobilenetv3` with relu6, no squeeze-excite, and a last stage of one block.
    """

    name = "ofa-proxyless"
    summary = "sub-nets of a ProxylessNAS supernet: depth, kernel, expansion, resolution"
    multiplier = 1.3
    activation = "relu6"
    eps = 1e-3

    @property
    def layouts(self) -> Mapping[Preset, Layout]:
        def stages(*shapes: tuple[int, int]) -> tuple[Stage, ...]:
            made = [Stage(width, stride, "relu6") for width, stride in shapes]
            return (*made[:-1], replace(made[-1], elastic=False))

        paper = Layout(
            stem=32,
            stem_stride=2,
            first=16,
            stages=stages((24, 2), (40, 2), (80, 2), (96, 1), (192, 2), (320, 1)),
            last=(1280,),
            depths=(2, 3, 4),
            kernels=(3, 5, 7),
            expansions=(3, 4, 6),
            resolutions=tuple(range(128, 225, 4)),
        )
        less = replace(paper, stem=8, first=8, depths=(1, 2, 3), expansions=(2, 3, 4))
        small = replace(
            less, stages=stages((16, 1), (24, 2), (40, 2), (48, 1)), last=(160,), resolutions=(20, 24, 28)
        )
        tiny = replace(
            less, stem_stride=1, stages=stages((16, 2), (24, 1), (32, 1)), last=(64,), resolutions=(6, 8)
        )
        return {"imagenet": paper, "small": small, "tiny": tiny}

    def head(self, inputs: int, last: tuple[int, ...]) -> Iterator[Layer]:
        yield Conv("expand", inputs, last[0], 1, 1, "relu6")
        yield GlobalPool("pool", last[0])
