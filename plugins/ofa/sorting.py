"""Channel sorting: the most important channels come first, so that slices keep them.

Every permutation is applied to all tensors that share the channels, so the largest network computes what
it did. Where narrower widths are trained already, channels are sorted within bands: a permutation never
crosses the edge of a trained width, and every trained sub-net computes what it did. Squeeze-excite's
hidden units follow the same rule.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from math import lcm
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from ...core import SpaceError
from .base import OnceForAll
from .network import BottleneckLayer, ConvNorm, MBConvLayer
from .plan import Bottleneck, Conv, MBConv, Plan
from .supernet import Supernet

Importance: TypeAlias = Literal["consumer-l1", "own-l1", "norm-scale", "taylor"]
"""`consumer-l1`: L1 norm of the weights that read a channel; `own-l1`: of those that make it;
`norm-scale`: size of its normalisation scale (1708.06519); `taylor`: sum of |weight x gradient| over the
weights that read it, from the gradients at hand (1906.10771).
"""

Axis: TypeAlias = tuple[Tensor, int]
"""A tensor and the dimension that holds the channels."""


@torch.no_grad()
def sort_inner(supernet: Supernet, trained: Iterable[Plan], importance: Importance = "consumer-l1") -> None:
    """Sort each block's inner channels (expansion), and squeeze-excite's hidden units.

    Args:
        supernet: changed in place.
        trained: plans that cover every trained inner width; their functions stay as they are.
        importance: how channels are ranked.
    """
    plans = list(trained)
    widths, hidden = _bands(plans, "middle"), _bands(plans, "hidden")
    group = _group(supernet.space)
    for layer in supernet.network.plan.layers:
        module = supernet.network.layers[layer.at]
        if isinstance(layer, MBConv) and layer.expand:
            assert isinstance(module, MBConvLayer)
            _sort_mbconv(module, widths[layer.at], hidden[layer.at], importance, group)
        elif isinstance(layer, Bottleneck):
            assert isinstance(module, BottleneckLayer)
            edges, read = widths[layer.at], (module.restore.conv.weight, 1)
            ranks = _rank(module.spatial, module.restore.conv.weight, importance)
            if layer.group is not None:  # a group's inputs and outputs go together
                order = _order(ranks, edges, lcm(group, layer.group))
                _permute([*_made_by(module.reduce), *_made_by(module.spatial), read], order)
                continue
            _permute([*_made_by(module.spatial), read], _order(ranks, edges, group))
            ranks = _rank(module.reduce, module.spatial.conv.weight, importance)
            axes = [*_made_by(module.reduce), (module.spatial.conv.weight, 1)]
            _permute(axes, _order(ranks, edges, group))


@torch.no_grad()
def sort_outer(supernet: Supernet, trained: Iterable[Plan], importance: Importance = "consumer-l1") -> None:
    """Sort the channels that blocks hand on to each other (`width` of `ofa-resnet50d`).

    All blocks of a stage share their output channels, through their shortcuts.

    Args:
        supernet: changed in place.
        trained: plans that cover every trained width.
        importance: how channels are ranked; producers' scores are added up.

    Raises:
        SpaceError: the space's widths aren't elastic.
    """
    if "width" not in supernet.space.kinds:
        raise SpaceError(f"space {supernet.space.name!r} has no elastic widths to sort")
    widths = _bands(trained, "outputs")
    group = _group(supernet.space)
    for streams in _streams(supernet):
        ranks = torch.stack(
            [
                _rank(producer, consumer, importance)
                for producer in streams.producers
                for consumer in streams.consumers
            ]
        ).sum(0)
        order = _order(ranks, widths[streams.at], group)
        axes = [axis for producer in streams.producers for axis in _made_by(producer)]
        _permute([*axes, *((weight, 1) for weight in streams.consumers)], order)


def banded(importance: Tensor, edges: Collection[int]) -> Tensor:
    """Order channels by falling importance within bands.

    Args:
        importance: (channels,).
        edges: trained widths: no channel crosses one.

    Returns:
        int64 (channels,), a permutation; of equal channels the earlier stays first.
    """
    bounds = sorted({0, len(importance), *(edge for edge in edges if edge < len(importance))})
    parts = [
        start + torch.sort(importance[start:end], descending=True, stable=True).indices
        for start, end in pairwise(bounds)
    ]
    return torch.cat(parts)


class _Stream:
    """Channels that several layers write and read. `at`: a layer that writes them."""

    def __init__(self, at: str) -> None:
        self.at = at
        self.producers: list[ConvNorm] = []
        self.consumers: list[Tensor] = []


def _streams(supernet: Supernet) -> list[_Stream]:
    """The elastic outer widths: what is written to and read from each, in the network's order."""
    streams: list[_Stream] = []
    for layer in supernet.network.plan.layers:
        module = supernet.network.layers[layer.at]
        if isinstance(layer, Conv):
            assert isinstance(module, ConvNorm)
            if streams:
                streams[-1].consumers.append(module.conv.weight)
            if not layer.shortcut:
                streams.append(_Stream(layer.at))
            streams[-1].producers.append(module)
        elif isinstance(layer, Bottleneck):
            assert isinstance(module, BottleneckLayer)
            streams[-1].consumers.append(module.reduce.conv.weight)
            if isinstance(module.downsample, ConvNorm):
                streams[-1].consumers.append(module.downsample.conv.weight)
                streams.append(_Stream(layer.at))
                streams[-1].producers.append(module.downsample)
            streams[-1].producers.append(module.restore)
    classifier = supernet.network.get_submodule("layers.classifier.linear")
    assert isinstance(classifier, nn.Linear)
    streams[-1].consumers.append(classifier.weight)
    return streams


def _sort_mbconv(
    module: MBConvLayer,
    widths: Sequence[int],
    hidden: Sequence[int],
    importance: Importance,
    group: int,
) -> None:
    expand = module.expand
    assert isinstance(expand, ConvNorm)
    consumer = module.project.conv.weight
    order = _order(_rank(module.depthwise, consumer, importance), widths, group)
    axes = [(consumer, 1), *_made_by(expand), *_made_by(module.depthwise)]
    excite = module.excite
    if not isinstance(excite, nn.Identity):
        reduce, gate = excite.get_submodule("reduce"), excite.get_submodule("expand")
        assert isinstance(reduce, nn.Conv2d)
        assert isinstance(gate, nn.Conv2d)
        assert reduce.bias is not None
        assert gate.bias is not None
        axes += [(reduce.weight, 1), (gate.weight, 0), (gate.bias, 0)]
        _permute(axes, order)
        units = banded(_by_input(gate.weight), hidden)
        _permute([(gate.weight, 1), (reduce.weight, 0), (reduce.bias, 0)], units)
    else:
        _permute(axes, order)


def _made_by(producer: ConvNorm) -> list[Axis]:
    """All tensors of a convolution and its normalisation that hold its output channels."""
    axes: list[Axis] = [(producer.conv.weight, 0)]
    norm = getattr(producer, "norm", None)
    if isinstance(norm, nn.Module):
        tensors = [*norm.parameters(recurse=False), *norm.buffers(recurse=False)]
        axes += [(tensor, 0) for tensor in tensors if tensor.ndim]
    return axes


def _rank(producer: ConvNorm, consumer: Tensor, importance: Importance) -> Tensor:
    if importance == "own-l1":
        return producer.conv.weight.double().abs().flatten(1).sum(1)
    if importance == "norm-scale":
        return producer.norm.weight.abs()
    if importance == "taylor":
        if consumer.grad is None:
            raise SpaceError("importance 'taylor' needs gradients: run a backward pass first")
        return _by_input(consumer * consumer.grad)
    return _by_input(consumer)


def _order(ranks: Tensor, edges: Collection[int], group: int) -> Tensor:
    """Order channels within bands. A layer's groups of channels move as one, by their mean."""
    blocks = banded(ranks.view(-1, group).mean(1), [edge // group for edge in edges])
    inside = torch.arange(group, device=blocks.device)
    return (blocks[:, None] * group + inside).flatten()


def _by_input(weight: Tensor) -> Tensor:
    # In double precision the order of the terms, which sorting changes, hardly matters.
    return weight.double().abs().transpose(0, 1).flatten(1).sum(1)


def _permute(axes: Iterable[Axis], order: Tensor) -> None:
    for tensor, dimension in axes:
        for moved in (tensor, tensor.grad):  # what is ranked next may go by gradients
            if moved is not None:
                moved.copy_(moved.index_select(dimension, order))


def _group(space: OnceForAll) -> int:
    return space.options.group_channels if space.options.norm == "group" else 1


def _bands(plans: Iterable[Plan], size: str) -> dict[str, list[int]]:
    """The values of the layers' attribute `size` in the plans, by layer."""
    found: dict[str, set[int]] = {}
    for plan in plans:
        for layer in plan.layers:
            found.setdefault(layer.at, set()).add(getattr(layer, size, 0))
    return {at: sorted(sizes) for at, sizes in found.items()}
