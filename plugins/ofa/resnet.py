"""The ResNet50D space: bottlenecks elastic in depth, inner and outer width, with an elastic stem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

from pydantic import Field, PositiveFloat, PositiveInt

from ...core import Choose, Shape, SpaceError, Value
from .base import RESOLUTION, OnceForAll, OnceForAllOptions, Preset, ascending, offer
from .plan import Bottleneck, Classifier, Conv, GlobalPool, Layer, MaxPool, Plan, rounded

RESIDUAL = (False, True)


class ResNetOptions(OnceForAllOptions):
    """Options of `ofa-resnet50d`."""

    widths: tuple[PositiveFloat, ...] | None = Field(
        default=None, min_length=1, description="Factors of stem and stage widths."
    )
    expansions: tuple[PositiveFloat, ...] | None = Field(
        default=None, min_length=1, description="Inner widths, as shares of a block's output width."
    )
    group_width: PositiveInt | None = Field(
        default=None,
        description="Channels of a group in the 3x3 convolutions of blocks (ResNeXt): narrower blocks have "
        "fewer groups; must divide every inner width. By default one group has all.",
    )


@dataclass(frozen=True)
class Layout:
    """A preset."""

    stem: tuple[int, int]
    stem_stride: int
    pool: bool
    stages: tuple[tuple[int, int, int], ...]
    """Width, stride, and depth to which the depth gene's value is added."""
    depths: tuple[int, ...]
    widths: tuple[float, ...]
    expansions: tuple[float, ...]
    resolutions: tuple[int, ...]


LAYOUTS: Mapping[Preset, Layout] = {
    "imagenet": Layout(
        stem=(32, 64),
        stem_stride=2,
        pool=True,
        stages=((256, 1, 2), (512, 2, 2), (1024, 2, 4), (2048, 2, 2)),
        depths=(0, 1, 2),
        widths=(0.65, 0.8, 1.0),
        expansions=(0.2, 0.25, 0.35),
        resolutions=tuple(range(128, 225, 4)),
    ),
    "small": Layout(
        stem=(32, 32),
        stem_stride=2,
        pool=False,
        stages=((64, 1, 1), (128, 2, 1), (192, 2, 1)),
        depths=(0, 1, 2),
        widths=(0.5, 0.75, 1.0),
        expansions=(0.25, 0.5, 0.75),
        resolutions=(20, 24, 28),
    ),
    "tiny": Layout(
        stem=(16, 16),
        stem_stride=1,
        pool=False,
        stages=((64, 2, 1), (128, 1, 1)),
        depths=(0, 1, 2),
        widths=(0.5, 1.0),
        expansions=(0.25, 0.5, 0.75),
        resolutions=(6, 8),
    ),
}


class OfaResNet50D(OnceForAll[ResNetOptions]):
    """The ResNet50D space of the authors' later release (widths, depths and expansions as there).

    The stem's two widths and each stage's width are a factor of the full one; a stage has its base
    depth plus {0, 1, 2} blocks; a block's inner width is a share of its stage's *active* width.
    With the paper's widths the stem's middle rounds to 24 channels for both 0.65 and 0.8: the one place
    where two candidates of this space are the same network.
    """

    name = "ofa-resnet50d"
    summary = "sub-nets of a ResNet50D supernet: depth, inner and outer width, stem, resolution"

    @cached_property
    def layout(self) -> Layout:
        """The preset with the options' changes."""
        base, options = LAYOUTS[self.options.preset], self.options
        added = (
            ascending([depth - 1 for depth in options.depths], "depths") if options.depths else base.depths
        )
        made = replace(
            base,
            depths=added,
            widths=ascending(options.widths or base.widths, "widths"),
            expansions=ascending(options.expansions or base.expansions, "expansions"),
            resolutions=ascending(options.resolutions or base.resolutions, "resolutions"),
        )
        for full, _, _ in made.stages:
            for width in made.widths:
                inner = [rounded(rounded(full * width) * share) for share in made.expansions]
                if len(set(inner)) < len(inner):
                    raise SpaceError(
                        f"expansions {list(made.expansions)} give a stage of {rounded(full * width)} "
                        f"channels the inner widths {inner}: leave one of the equal ones out"
                    )
                group = options.group_width or 1
                if any(one % group for one in inner):
                    raise SpaceError(
                        f"group_width {group} doesn't divide the inner widths {inner}: take 8, 4 or 2"
                    )
        return made

    @property
    def resolutions(self) -> tuple[int, ...]:
        return self.layout.resolutions

    def kernels(self, at: str) -> tuple[int, ...]:
        return ()

    def depths(self, base: int) -> tuple[int, ...]:
        """Depths of a stage."""
        return tuple(base + more for more in self.layout.depths)

    def choices(self, choose: Choose) -> None:
        layout = self.layout
        offer(choose, RESOLUTION, self.resolutions)
        offer(choose, "stem.residual", RESIDUAL)
        offer(choose, "stem.middle.width", layout.widths)
        offer(choose, "stem.width", layout.widths)
        for number, (_, _, base) in enumerate(layout.stages, start=1):
            offer(choose, f"stage{number}.width", layout.widths)
            depth = cast(int, offer(choose, f"stage{number}.depth", self.depths(base)))
            for block in range(1, depth + 1):
                offer(choose, f"stage{number}.block{block}.expand", layout.expansions)

    def size(self) -> int:
        layout = self.layout
        total = len(self.resolutions) * len(RESIDUAL) * len(layout.widths) ** 2
        for _, _, base in layout.stages:
            inner = sum(len(layout.expansions) ** depth for depth in self.depths(base))
            total *= len(layout.widths) * inner
        return total

    def plan(self, candidate: Mapping[str, Value], shape: Shape) -> Plan:
        layout = self.layout

        def width(name: str, full: int) -> int:
            return rounded(full * cast(float, self.read(candidate, name, layout.widths)))

        middle, outer = width("stem.middle.width", layout.stem[0]), width("stem.width", layout.stem[1])
        layers: list[Layer] = [Conv("stem", shape.input[0], middle, 3, layout.stem_stride, "relu")]
        if self.read(candidate, "stem.residual", RESIDUAL):
            layers.append(Conv("stem_residual", middle, middle, 3, 1, "relu", shortcut=True))
        layers.append(Conv("stem_last", middle, outer, 3, 1, "relu"))
        if layout.pool:
            layers.append(MaxPool("pool", outer))
        inputs = outer
        for number, (full, stride, base) in enumerate(layout.stages, start=1):
            outputs = width(f"stage{number}.width", full)
            depth = cast(int, self.read(candidate, f"stage{number}.depth", self.depths(base)))
            for block in range(1, depth + 1):
                name = f"stage{number}.block{block}.expand"
                share = cast(float, self.read(candidate, name, layout.expansions))
                layers.append(
                    Bottleneck(
                        f"stage{number}_block{block}",
                        inputs,
                        rounded(outputs * share),
                        outputs,
                        stride if block == 1 else 1,
                        "relu",
                        downsample=block == 1,
                        group=self.options.group_width,
                    )
                )
                inputs = outputs
        layers += [
            GlobalPool("head", inputs),
            Classifier("classifier", inputs, shape.classes, self.options.dropout),
        ]
        plan = Plan(
            self.name,
            shape.input[0],
            shape.classes,
            self.resolution(candidate),
            tuple(layers),
            self.norm,
        )
        return self.check(plan)
