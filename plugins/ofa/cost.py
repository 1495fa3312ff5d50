"""What a plan costs: multiply-accumulates, parameters, activation memory. Exact integers, no torch.

A multiply-accumulate counts as 1. Convolutions and linear layers count; normalisation, activations,
pooling and biases don't.
"""

from __future__ import annotations

from .plan import Bottleneck, Classifier, Conv, Layer, MBConv, Plan, side_after

FLOAT = 4
"""Bytes of an activation."""


def macs(plan: Plan) -> int:
    """Count multiply-accumulates of one input's forward pass."""
    return sum(layer_macs(layer, size) for layer, size in plan.sizes())


def layer_macs(layer: Layer, size: int) -> int:
    """Count one layer's multiply-accumulates on a map of side `size`."""
    before, after = size**2, side_after(layer, size) ** 2
    match layer:
        case Conv():
            return after * layer.kernel**2 * layer.inputs * layer.outputs
        case MBConv():
            expand = before * layer.inputs * layer.middle if layer.expand else 0
            excite = 2 * layer.middle * layer.hidden if layer.excite else 0
            inside = after * layer.middle * (layer.kernel**2 + layer.outputs)
            return expand + inside + excite
        case Bottleneck():
            middle = layer.middle
            shortcut = after * layer.inputs * layer.outputs if layer.downsample else 0
            inside = after * middle * (9 * middle // layer.groups + layer.outputs)
            return before * layer.inputs * middle + inside + shortcut
        case Classifier():
            return layer.inputs * layer.outputs
        case _:
            return 0


def parameters(plan: Plan) -> int:
    """Count the extracted network's parameters."""
    return sum(_parameters(layer) for layer in plan.layers)


def _parameters(layer: Layer) -> int:
    match layer:
        case Conv():
            return layer.outputs * (layer.inputs * layer.kernel**2 + 2 * layer.norm)
        case MBConv():
            middle, hidden = layer.middle, layer.hidden
            expand = middle * (layer.inputs + 2) if layer.expand else 0
            excite = hidden * (middle + 1) + middle * (hidden + 1) if layer.excite else 0
            return expand + middle * (layer.kernel**2 + 2) + layer.outputs * (middle + 2) + excite
        case Bottleneck():
            middle, outputs = layer.middle, layer.outputs
            shortcut = outputs * (layer.inputs + 2) if layer.downsample else 0
            inside = middle * (layer.inputs + 2 + 9 * middle // layer.groups + 2)
            return inside + outputs * (middle + 2) + shortcut
        case Classifier():
            return (layer.inputs + 1) * layer.outputs
        case _:
            return 0


def peak_memory(plan: Plan) -> int:
    """Most bytes of activations alive at once in one input's forward pass in float32.

    Alive are an operation's input and output, and a block's input while its shortcut waits.
    Normalisation and activations are taken to work in place; a runtime's own buffers don't count.
    """
    peak = plan.channels * plan.resolution**2
    for layer, size in plan.sizes():
        before, after = size**2, side_after(layer, size) ** 2
        match layer:
            case MBConv():
                inputs, outputs = layer.inputs * before, layer.outputs * after
                wide, narrow = layer.middle * before, layer.middle * after
                held = inputs if layer.shortcut else 0
                peak = max(peak, inputs + wide, held + wide + narrow, held + narrow + outputs)
            case Bottleneck():
                inputs, outputs = layer.inputs * before, layer.outputs * after
                wide, narrow = layer.middle * before, layer.middle * after
                peak = max(peak, inputs + wide, inputs + wide + narrow, inputs + narrow + outputs)
                peak = max(peak, inputs + 2 * outputs if layer.downsample else 0)
            case Conv():
                peak = max(peak, layer.inputs * before + layer.outputs * after)
            case Classifier():
                peak = max(peak, layer.inputs + layer.outputs)
            case _:
                peak = max(peak, layer.channels * (before + after))
    return FLOAT * peak
