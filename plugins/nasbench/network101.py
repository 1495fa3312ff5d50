"""The network around a NAS-Bench-101 cell (arXiv 1902.09635, section 2 and figure 1)."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from ...core import Shape
from ...core.graphs import Edge, Form


class GraphNetwork(nn.Module):
    """Stem, three stacks of cells with pooling between them, global pooling, classifier.

    Maps (n, channels, height, width), of any size, to logits (n, classes). Stacks have `width`, 2 and 4
    times `width` channels.
    """

    def __init__(self, graph: Form, shape: Shape, width: int, depth: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = [_conv_bn_relu(shape.input[0], width, 3)]
        channels = width
        for stack in range(3):
            if stack:
                blocks.append(nn.MaxPool2d(2, stride=2, ceil_mode=True))  # odd sizes are rounded up
            for _ in range(depth):
                blocks.append(GraphCell(graph, channels, width * 2**stack))
                channels = width * 2**stack
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, shape.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits."""
        features: Tensor = self.blocks(images)
        return self.classifier(features.mean(dim=(2, 3)))


class GraphCell(nn.Module):
    """One cell: maps (n, inputs, height, width) to (n, outputs, height, width).

    A vertex sums what its edges bring, cut to its own channels, and the cell's input through a 1x1
    convolution of its own. The output concatenates its branches, among which the channels are dealt.

    Args:
        graph: labels, input first and output last, and edges that go up; every vertex on a path between.
        inputs: channels of the cell's input.
        outputs: channels of its output.
    """

    def __init__(self, graph: Form, inputs: int, outputs: int) -> None:
        super().__init__()
        labels, edges = graph
        last = len(labels) - 1
        self.channels = vertex_channels(len(labels), edges, inputs, outputs)
        self._inner = range(1, last)
        self._sources = {
            vertex: [source for source, target in edges if target == vertex and source > 0]
            for vertex in range(1, last + 1)
        }
        self.operations = nn.ModuleDict(
            {str(vertex): _operation(labels[vertex], self.channels[vertex]) for vertex in self._inner}
        )
        # The output's projection of the input, channel by channel its own, is made for each branch apart.
        feeding = self._sources[last] or [last]
        projected = [vertex for vertex in self._inner if (0, vertex) in edges]
        self.projections = nn.ModuleDict(
            {str(vertex): _conv_bn_relu(inputs, self.channels[vertex], 1) for vertex in projected}
        )
        self.shortcuts = nn.ModuleDict(
            {str(vertex): _conv_bn_relu(inputs, self.channels[vertex], 1) for vertex in feeding}
            if (0, last) in edges
            else {}
        )
        self._feeding = feeding

    def branches(self, inputs: Tensor) -> list[Tensor]:
        """What the output concatenates."""
        values: dict[int, Tensor] = {}
        for vertex in self._inner:
            parts = [values[source][:, : self.channels[vertex]] for source in self._sources[vertex]]
            if str(vertex) in self.projections:
                parts.append(self.projections[str(vertex)](inputs))
            values[vertex] = self.operations[str(vertex)](_total(parts))
        found: list[Tensor] = []
        for vertex in self._feeding:
            parts = [values[vertex]] if vertex in values else []
            if str(vertex) in self.shortcuts:
                parts.append(self.shortcuts[str(vertex)](inputs))
            found.append(_total(parts))
        return found

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (n, inputs, height, width) to (n, outputs, height, width)."""
        return torch.cat(self.branches(inputs), dim=1)


class ReadOut(nn.Module):
    """A cell and the 1x1 convolution after it, written as the sum of one a branch: it is the same function,
    and in whichever order the branches are concatenated.
    """

    def __init__(self, graph: Form, inputs: int, outputs: int) -> None:
        super().__init__()
        self.cell = GraphCell(graph, inputs, outputs)
        last = len(graph[0]) - 1
        feeding = [vertex for vertex in range(1, last) if (vertex, last) in graph[1]]
        widths = [self.cell.channels[vertex] for vertex in feeding] or [outputs]
        self.reads = nn.ModuleList(nn.Conv2d(width, inputs, 1, bias=False) for width in widths)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (n, inputs, height, width) to the same shape."""
        branches = self.cell.branches(inputs)
        return _total([read(branch) for read, branch in zip(self.reads, branches, strict=True)])


def vertex_channels(vertices: int, edges: Collection[Edge], inputs: int, outputs: int) -> list[int]:
    """Channels of each vertex: the output's are dealt evenly among its branches, what is left over to the
    first of them; any other vertex has as many as the widest that it feeds.
    """
    last = vertices - 1
    feeding = [vertex for vertex in range(1, last) if (vertex, last) in edges]
    channels = [inputs, *[0] * (vertices - 2), outputs]
    for rank, vertex in enumerate(feeding):
        channels[vertex] = outputs // len(feeding) + (rank < outputs % len(feeding))
    for vertex in reversed(range(1, last)):
        if vertex not in feeding:
            channels[vertex] = max(channels[target] for source, target in edges if source == vertex)
    return channels


def _total(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _operation(label: str, channels: int) -> nn.Module:
    if label == "maxpool3x3":
        return nn.MaxPool2d(3, stride=1, padding=1)
    return _conv_bn_relu(channels, channels, {"conv1x1-bn-relu": 1, "conv3x3-bn-relu": 3}[label])


def _conv_bn_relu(inputs: int, outputs: int, kernel: int) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())
