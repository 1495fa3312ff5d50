"""The network around a NAS-Bench-201 cell (arXiv 2001.00326, figure 1)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ...core import Shape

Cell = Mapping[tuple[int, int], str]


class CellNetwork(nn.Module):
    """Stem, three stages of cells with residual reductions between them, pooling, classifier.

    Maps (n, channels, height, width), of any size, to logits (n, classes). Stages have `width`, 2
    and 4 times `width` channels.
    """

    def __init__(self, cell: Cell, shape: Shape, width: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(shape.input[0], width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        )
        blocks: list[nn.Module] = []
        for channels in (width, 2 * width, 4 * width):
            if channels > width:
                blocks.append(Reduction(channels // 2, channels))
            blocks.extend(CellBlock(cell, channels) for _ in range(depth))
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(nn.BatchNorm2d(4 * width), nn.ReLU())
        self.classifier = nn.Linear(4 * width, shape.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits."""
        features: Tensor = self.last(self.blocks(self.stem(images)))
        return self.classifier(features.mean(dim=(2, 3)))


class CellBlock(nn.Module):
    """One cell: node 3 of four, each the sum of its edges. Keeps the shape.

    Operations that lead nowhere are there and are computed, as in the benchmark: they count in its
    parameters and FLOPs.
    """

    def __init__(self, cell: Cell, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict(
            {
                f"{source}_{node}": _operation(name, channels)
                for (source, node), name in cell.items()
                if name != "none"
            }
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (n, channels, height, width) to the same."""
        nodes = [inputs]
        for node in range(1, 4):
            total: Tensor | None = None
            for source in range(node):
                key = f"{source}_{node}"
                if key in self.edges:
                    part: Tensor = self.edges[key](nodes[source])
                    total = part if total is None else total + part
            nodes.append(inputs.new_zeros(inputs.shape) if total is None else total)
        return nodes[-1]


class Reduction(nn.Module):
    """Residual block of stride 2: doubles the channels, halves the image (rounding up)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            _relu_conv_bn(inputs, outputs, 3, stride=2), _relu_conv_bn(outputs, outputs, 3)
        )
        # ceil_mode matters for odd sizes alone, which the benchmark hasn't: they round up like the
        # strided convolution.
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, stride=2, ceil_mode=True), nn.Conv2d(inputs, outputs, 1, bias=False)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (n, inputs, height, width) to (n, outputs, height / 2, width / 2)."""
        return self.branch(inputs) + self.shortcut(inputs)


def _operation(name: str, channels: int) -> nn.Module:
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return _relu_conv_bn(channels, channels, {"nor_conv_1x1": 1, "nor_conv_3x3": 3}[name])


def _relu_conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), convolution, nn.BatchNorm2d(outputs))
