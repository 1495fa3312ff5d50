"""What a network of the Once-for-All spaces consists of: layer after layer, as plain data.

A plan is made from a candidate. The network, its cost, its latency key and its JSON description are all
made from the plan, so they can't disagree. A layer's `at` is its place in the network: a sub-net's
tensors are found under the same names in the supernet. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

from ...core import SpaceError

SCHEMA = 1
"""Version of the JSON description."""

Activation: TypeAlias = Literal["relu", "relu6", "h-swish"]


def rounded(width: float) -> int:
    """Round a channel count to a multiple of 8, down by at most a tenth (MobileNetV2, 1801.04381)."""
    whole = max(8, int(width + 4) // 8 * 8)
    return whole + 8 if whole < 0.9 * width else whole


def halved(size: int, stride: int) -> int:
    """Side of a map after a padded operation with that stride: divided, rounded up."""
    return (size - 1) // stride + 1


@dataclass(frozen=True)
class Conv:
    """Convolution without bias, normalisation unless `norm` is off, activation; plus its input with
    `shortcut`.
    """

    at: str
    inputs: int
    outputs: int
    kernel: int
    stride: int
    activation: Activation
    norm: bool = True
    shortcut: bool = False


@dataclass(frozen=True)
class MBConv:
    """Inverted residual: expand by 1x1 (left out when `middle` is `inputs`), depthwise, squeeze-excite,
    project by 1x1 (MobileNetV2, 1801.04381; MobileNetV3, 1905.02244).
    """

    at: str
    inputs: int
    middle: int
    outputs: int
    kernel: int
    stride: int
    activation: Activation
    excite: bool
    expand: bool

    @property
    def shortcut(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.inputs == self.outputs

    @property
    def hidden(self) -> int:
        """Units inside squeeze-excite, which follow the active width."""
        return rounded(self.middle // 4)


@dataclass(frozen=True)
class Bottleneck:
    """Residual bottleneck (ResNet, 1512.03385) with its stride in the 3x3 convolution."""

    at: str
    inputs: int
    middle: int
    outputs: int
    stride: int
    activation: Activation
    downsample: bool
    """Whether the shortcut changes shape: in a stage's first block, also where widths happen to agree."""
    pooled: bool = True
    """Whether that shortcut pools before its 1x1 (ResNet-D, 1812.01187), or strides with it."""
    group: int | None = None
    """Channels of a group in the 3x3 convolution (ResNeXt, 1611.05431), as many groups as the inner width
    has room for; None: all in one.
    """

    @property
    def groups(self) -> int:
        """Groups of the 3x3 convolution, which follow the active width."""
        return self.middle // (self.group or self.middle)


@dataclass(frozen=True)
class MaxPool:
    """3x3 pooling of stride 2."""

    at: str
    channels: int


@dataclass(frozen=True)
class GlobalPool:
    """Mean over the map."""

    at: str
    channels: int


@dataclass(frozen=True)
class Classifier:
    """Dropout and a linear layer with bias."""

    at: str
    inputs: int
    outputs: int
    dropout: float = 0.0


Layer: TypeAlias = Conv | MBConv | Bottleneck | MaxPool | GlobalPool | Classifier
KINDS: Mapping[str, type[Any]] = {
    kind.__name__: kind for kind in (Conv, MBConv, Bottleneck, MaxPool, GlobalPool, Classifier)
}


@dataclass(frozen=True)
class Norm:
    """The normalisation layers: BatchNorm, or GroupNorm with a fixed number of channels a group."""

    kind: Literal["batch", "group"] = "batch"
    momentum: float = 0.1
    eps: float = 1e-5
    group: int = 8
    standardize: bool = False
    """Weight standardisation of the convolutions (1903.10520)."""


@dataclass(frozen=True)
class Plan:
    """A whole network for inputs (`channels`, any height and width), scaled to `resolution` squared."""

    space: str
    channels: int
    classes: int
    resolution: int
    layers: tuple[Layer, ...]
    norm: Norm = Norm()

    def sizes(self) -> Iterator[tuple[Layer, int]]:
        """Each layer with the side of its input map."""
        size = self.resolution
        for layer in self.layers:
            yield layer, size
            size = side_after(layer, size)

    def data(self) -> dict[str, Any]:
        """As JSON data; `read` reads it."""
        body = asdict(self)
        body["layers"] = [{"kind": type(layer).__name__, **asdict(layer)} for layer in self.layers]
        return {"schema": SCHEMA, **body}

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Plan:
        """Read what `data` gave.

        Raises:
            SpaceError: another schema version, or no such description.
        """
        if data.get("schema") != SCHEMA:
            raise SpaceError(f"a network description of schema {data.get('schema')!r}: {SCHEMA} is known")
        try:
            layers = [dict(layer) for layer in data["layers"]]
            made = tuple(KINDS[layer.pop("kind")](**layer) for layer in layers)
            rest = {name: data[name] for name in ("space", "channels", "classes", "resolution")}
            return cls(**rest, layers=made, norm=Norm(**data["norm"]))
        except (KeyError, TypeError) as error:
            raise SpaceError(f"no network description: {error}") from error

    def at(self, resolution: int) -> Plan:
        """The same network at another resolution."""
        return replace(self, resolution=resolution)


def side_after(layer: Layer, size: int) -> int:
    """Side of the map that leaves `layer`."""
    if isinstance(layer, MaxPool):
        return halved(size, 2)
    if isinstance(layer, GlobalPool | Classifier):
        return 1
    return halved(size, layer.stride)
