"""Plain networks made from plans: ordinary modules, nothing elastic. Teachers and extracted sub-nets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...core import ArtifactError, SpaceError
from .plan import Bottleneck, Classifier, Conv, GlobalPool, Layer, MaxPool, MBConv, Norm, Plan

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "h-swish": lambda: nn.Hardswish(inplace=True),
}


class Network(nn.Module):
    """The network of a plan. Maps (n, channels, height, width), of any size, to logits (n, classes).

    Inputs of another size than the plan's resolution are scaled to it first (bilinear), so that a
    network is complete: it takes the task's own images.

    Args:
        plan: the network's layers.
        zero_last_scale: start each residual block's last normalisation with scale 0.
        make: gives each layer's module; for networks that share modules.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        zero_last_scale: bool = False,
        make: Callable[[Layer, Norm], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.plan = plan
        self.layers = nn.ModuleDict(
            {layer.at: (make or build_layer)(layer, plan.norm) for layer in plan.layers}
        )
        if make is None:
            _initialise(self, zero_last_scale)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits."""
        features = resized(images, self.plan.resolution)
        for layer in self.layers.values():
            features = layer(features)
        return features


def resized(images: Tensor, side: int) -> Tensor:
    """Scale (n, c, h, w) to (n, c, side, side), bilinearly; the same tensor when it has that size."""
    if images.shape[-2] == side and images.shape[-1] == side:
        return images
    return functional.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)


def build_layer(layer: Layer, norm: Norm) -> nn.Module:
    """Make a layer's module, with torch's own initial values."""
    match layer:
        case Conv():
            return ConvLayer(layer, norm)
        case MBConv():
            return MBConvLayer(layer, norm)
        case Bottleneck():
            return BottleneckLayer(layer, norm)
        case MaxPool():
            return nn.MaxPool2d(3, stride=2, padding=1)
        case GlobalPool():
            return nn.AdaptiveAvgPool2d(1)
        case Classifier():
            return ClassifierLayer(layer)


class ConvNorm(nn.Sequential):
    """`conv`, then `norm` and `act` where wanted."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        norm: Norm | None,
        activation: str | None = None,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        kind = StandardizedConv2d if norm is not None and norm.standardize else nn.Conv2d
        self.conv = kind(
            inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
        )
        if norm is not None:
            self.norm = (
                nn.BatchNorm2d(outputs, eps=norm.eps, momentum=norm.momentum)
                if norm.kind == "batch"
                else nn.GroupNorm(max(1, outputs // norm.group), outputs, eps=norm.eps)
            )
        if activation is not None:
            self.act = ACTIVATIONS[activation]()


class StandardizedConv2d(nn.Conv2d):
    """Convolution whose filters have mean 0 and variance 1 (weight standardisation, 1903.10520)."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Convolve."""
        mean = self.weight.mean(dim=(1, 2, 3), keepdim=True)
        variance = self.weight.var(dim=(1, 2, 3), keepdim=True, correction=0)
        weight = (self.weight - mean) * torch.rsqrt(variance + 1e-5)
        return self._conv_forward(input, weight, self.bias)


class ConvLayer(ConvNorm):
    """A `Conv`."""

    def __init__(self, layer: Conv, norm: Norm) -> None:
        super().__init__(
            layer.inputs,
            layer.outputs,
            layer.kernel,
            norm if layer.norm else None,
            layer.activation,
            layer.stride,
        )
        self.shortcut = layer.shortcut

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Map (n, inputs, h, w) to (n, outputs, h', w'), in channels-last order.

        Later layers keep the order, and depthwise convolutions are nearly twice as fast in it on a CPU.
        """
        features: Tensor = cast(Any, super()).forward(input).contiguous(memory_format=torch.channels_last)
        return features + input if self.shortcut else features


class SqueezeExcite(nn.Module):
    """Scales channels by a gate computed from their means (1709.01507, as in MobileNetV3)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (n, channels, h, w) to the same."""
        gate = functional.relu(self.reduce(inputs.mean((2, 3), keepdim=True)))
        return inputs * functional.hardsigmoid(self.expand(gate))


class MBConvLayer(nn.Module):
    """An `MBConv`."""

    def __init__(self, layer: MBConv, norm: Norm) -> None:
        super().__init__()
        middle, activation = layer.middle, layer.activation
        self.expand = ConvNorm(layer.inputs, middle, 1, norm, activation) if layer.expand else nn.Identity()
        self.depthwise = ConvNorm(middle, middle, layer.kernel, norm, activation, layer.stride, groups=middle)
        self.excite = SqueezeExcite(middle, layer.hidden) if layer.excite else nn.Identity()
        self.project = ConvNorm(middle, layer.outputs, 1, norm)
        self.shortcut = layer.shortcut

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h', w')."""
        features: Tensor = self.project(self.excite(self.depthwise(self.expand(inputs))))
        return features + inputs if self.shortcut else features


class BottleneckLayer(nn.Module):
    """A `Bottleneck`."""

    def __init__(self, layer: Bottleneck, norm: Norm) -> None:
        super().__init__()
        middle, activation = layer.middle, layer.activation
        self.reduce = ConvNorm(layer.inputs, middle, 1, norm, activation)
        self.spatial = ConvNorm(middle, middle, 3, norm, activation, layer.stride, layer.groups)
        self.restore = ConvNorm(middle, layer.outputs, 1, norm)
        self.pool = (
            nn.AvgPool2d(layer.stride, layer.stride, ceil_mode=True)
            if layer.stride > 1 and layer.pooled
            else nn.Identity()
        )
        self.downsample = (
            ConvNorm(layer.inputs, layer.outputs, 1, norm, stride=1 if layer.pooled else layer.stride)
            if layer.downsample
            else nn.Identity()
        )
        self.act = ACTIVATIONS[activation]()

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h', w')."""
        features: Tensor = self.restore(self.spatial(self.reduce(inputs)))
        return self.act(features + self.downsample(self.pool(inputs)))


class ClassifierLayer(nn.Module):
    """A `Classifier`."""

    def __init__(self, layer: Classifier) -> None:
        super().__init__()
        self.dropout = nn.Dropout(layer.dropout)
        self.linear = nn.Linear(layer.inputs, layer.outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (n, inputs, 1, 1) to logits (n, outputs)."""
        return self.linear(self.dropout(inputs.flatten(1)))


def save(network: Network, folder: Path) -> tuple[Path, Path]:
    """Write `network.json` and `weights.safetensors`, from which `load` makes the network again."""
    from ...core.training.checkpoint import save_weights

    folder.mkdir(parents=True, exist_ok=True)
    described, weights = folder / "network.json", folder / "weights.safetensors"
    described.write_text(json.dumps(network.plan.data(), indent=1), encoding="utf-8")
    save_weights(network, weights)
    return described, weights


def load(folder: Path, weights: Path | None = None) -> Network:
    """Make a network from what `save` wrote.

    Args:
        folder: with `network.json`.
        weights: the safetensors file, where it isn't `weights.safetensors` beside it.

    Raises:
        ArtifactError: a file is missing, damaged or of another kind.
    """
    from ...core.training.checkpoint import load_weights

    path = folder / "network.json"
    try:
        plan = Plan.read(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, SpaceError) as error:
        raise ArtifactError(f"{path} doesn't describe a network: {error}") from error
    network = Network(plan)
    load_weights(network, weights or folder / "weights.safetensors")
    return network


def _initialise(network: nn.Module, zero_last_scale: bool) -> None:
    """He initialisation by fan-out; scales 1 and shifts 0 (1502.01852)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            nn.init.uniform_(module.weight, -bound, bound)
            nn.init.zeros_(module.bias)
    if zero_last_scale:
        for module in network.modules():
            last = module.project if isinstance(module, MBConvLayer) and module.shortcut else None
            last = module.restore if isinstance(module, BottleneckLayer) else last
            if isinstance(last, ConvNorm):
                nn.init.zeros_(last.norm.weight)
