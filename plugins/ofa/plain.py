"""Plain networks by name, as published: what sub-nets are compared with. Nothing in them is elastic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias, cast, get_args

from pydantic import Field, PositiveFloat, PositiveInt

from ...core import Candidate, Choose, PluginOptions, SearchSpace, Shape, Value
from .base import offer
from .plan import Activation, Bottleneck, Classifier, Conv, GlobalPool, Layer, MaxPool, MBConv, Plan, rounded

if TYPE_CHECKING:
    from torch import nn

Name: TypeAlias = Literal["mobilenet-v2", "mobilenet-v3-large", "resnet-50", "resnet-50d"]


class PlainOptions(PluginOptions):
    """Options of `plain-networks`."""

    networks: tuple[Name, ...] = Field(
        default=get_args(Name), min_length=1, description="Networks to choose from."
    )
    resolution: PositiveInt = Field(default=224, description="Side that images are scaled to.")
    width_multiplier: PositiveFloat = Field(default=1.0, description="Factor of all widths.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout before the classifier.")


class PlainNetworks(SearchSpace[PlainOptions]):
    """MobileNetV2 (1801.04381), MobileNetV3-Large (1905.02244), ResNet-50 (1512.03385, with the stride in
    the 3x3 convolution) and ResNet-50-D (1812.01187), at any width, for any input and number of classes.

    A space of one network has one candidate: it trains a baseline.
    """

    name: ClassVar[str] = "plain-networks"
    summary: ClassVar[str] = "MobileNetV2, MobileNetV3-Large, ResNet-50 and ResNet-50-D, as published"

    def choices(self, choose: Choose) -> None:
        offer(choose, "network", self.options.networks)

    def build(self, candidate: Candidate, shape: Shape) -> nn.Module:
        from .network import Network

        return Network(self.plan(candidate, shape))

    def plan(self, candidate: Mapping[str, Value], shape: Shape) -> Plan:
        """The candidate's network, layer by layer."""
        options, channels = self.options, shape.input[0]
        name = cast(Name, candidate.get("network", options.networks[0]))

        def wide(width: int) -> int:
            return rounded(width * options.width_multiplier)

        *layers, last = BODIES[name](channels, wide)
        width = last.channels if isinstance(last, GlobalPool) else cast(Conv, last).outputs
        classifier = Classifier("classifier", width, shape.classes, options.dropout)
        return Plan(self.name, channels, shape.classes, options.resolution, (*layers, last, classifier))


Wide: TypeAlias = Callable[[int], int]


def _mobilenet_v2(channels: int, wide: Wide) -> Iterator[Layer]:
    yield Conv("stem", channels, wide(32), 3, 2, "relu6")
    width, number = wide(32), 0
    for expansion, outputs, count, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for index in range(count):
            number += 1
            yield MBConv(
                f"block{number}",
                width,
                width * expansion,
                wide(outputs),
                3,
                1 if index else stride,
                "relu6",
                excite=False,
                expand=expansion > 1,
            )
            width = wide(outputs)
    last = max(1280, wide(1280))  # narrower networks keep their last layer's width
    yield Conv("expand", width, last, 1, 1, "relu6")
    yield GlobalPool("pool", last)


LARGE: tuple[tuple[int, int, int, bool, Activation, int], ...] = (
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "h-swish", 2),
    (3, 200, 80, False, "h-swish", 1),
    (3, 184, 80, False, "h-swish", 1),
    (3, 184, 80, False, "h-swish", 1),
    (3, 480, 112, True, "h-swish", 1),
    (3, 672, 112, True, "h-swish", 1),
    (5, 672, 160, True, "h-swish", 2),
    (5, 960, 160, True, "h-swish", 1),
    (5, 960, 160, True, "h-swish", 1),
)
"""Kernel, inside, outputs, squeeze-excite, activation, stride (1905.02244, table 1)."""


def _mobilenet_v3_large(channels: int, wide: Wide) -> Iterator[Layer]:
    yield Conv("stem", channels, wide(16), 3, 2, "h-swish")
    width = wide(16)
    for number, (kernel, middle, outputs, excite, activation, stride) in enumerate(LARGE, start=1):
        inside, outside = wide(middle), wide(outputs)
        yield MBConv(f"block{number}", width, inside, outside, kernel, stride, activation, excite, number > 1)
        width = outside
    yield Conv("expand", width, wide(960), 1, 1, "h-swish")
    yield GlobalPool("pool", wide(960))
    yield Conv("mix", wide(960), wide(1280), 1, 1, "h-swish", norm=False)


def _resnet_50(channels: int, wide: Wide, pooled: bool = False) -> Iterator[Layer]:
    width = wide(64)
    if pooled:
        yield Conv("stem", channels, wide(32), 3, 2, "relu")
        yield Conv("stem_middle", wide(32), wide(32), 3, 1, "relu")
        yield Conv("stem_last", wide(32), width, 3, 1, "relu")
    else:
        yield Conv("stem", channels, width, 7, 2, "relu")
    yield MaxPool("pool", width)
    for stage, (outputs, count) in enumerate(((256, 3), (512, 4), (1024, 6), (2048, 3)), start=1):
        for block in range(count):
            yield Bottleneck(
                f"stage{stage}_block{block + 1}",
                width,
                wide(outputs // 4),
                wide(outputs),
                2 if stage > 1 and block == 0 else 1,
                "relu",
                downsample=block == 0,
                pooled=pooled,
            )
            width = wide(outputs)
    yield GlobalPool("head", width)


def _resnet_50d(channels: int, wide: Wide) -> Iterator[Layer]:
    return _resnet_50(channels, wide, pooled=True)


BODIES: Mapping[Name, Callable[[int, Wide], Iterator[Layer]]] = {
    "mobilenet-v2": _mobilenet_v2,
    "mobilenet-v3-large": _mobilenet_v3_large,
    "resnet-50": _resnet_50,
    "resnet-50d": _resnet_50d,
}
"""All layers but the classifier, of given input channels and widths."""
