"""The cell space of NAS-Bench-201: six edges, five operations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveInt

from ...core import Candidate, Choose, PluginOptions, SearchSpace, Shape, SpaceError, Value
from ...core.errors import near_misses
from ...core.probe import NetworkProbe

if TYPE_CHECKING:
    from torch import nn

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""The operations by the benchmark's names, in its order."""

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""The cell's edges (from node, to node), in the order of the benchmark's architecture strings."""

PROBED = (4, 8)
"""Channels, and height and width, of the cell that stands for its network in a fingerprint. Three channels
of 4 x 4 already tell all 15,625 cells apart as algebra does."""

WIDTH, DEPTH = 16, 5
"""Channels of the first stage and cells a stage, as measured by the benchmark."""


class NasBench201Options(PluginOptions):
    """Options of `nasbench201`."""

    width: PositiveInt = Field(default=WIDTH, description="Channels of the first stage (the paper's C).")
    depth: PositiveInt = Field(default=DEPTH, description="Cells in each of three stages (the paper's N).")


class NasBench201(SearchSpace[NasBench201Options]):
    """15,625 cells: each of the six edges between four nodes carries one of five operations.

    Node 0 is the cell's input, node 3 its output, and a node is the sum of its incoming edges. The
    network around the cell is the paper's (section 2.1): three stages of `depth` equal cells, with
    a residual block between stages that halves the image and doubles the channels.
    """

    name: ClassVar[str] = "nasbench201"
    summary: ClassVar[str] = "the 15,625 cells of NAS-Bench-201"

    def choices(self, choose: Choose) -> None:
        for edge in EDGES:
            choose.categorical(choice(edge), OPERATIONS)

    def size(self) -> int:
        return len(OPERATIONS) ** len(EDGES)

    def build(self, candidate: Candidate, shape: Shape) -> nn.Module:
        from .network import CellNetwork

        return CellNetwork(cell(candidate), shape, self.options.width, self.options.depth)

    def canonical(self, candidate: Candidate) -> Any:
        from .canonical import canonical_cell

        return canonical_cell(cell(candidate))

    def probe(self, candidate: Candidate, shape: Shape) -> NetworkProbe:
        """Compare cells alone, narrow ones: networks of equal cells are equal, at any width and depth."""
        from .network import CellBlock

        channels, side = PROBED
        return NetworkProbe(lambda: CellBlock(cell(candidate), channels), (channels, side, side))


def choice(edge: tuple[int, int]) -> str:
    """Name the choice of the operation on `edge`."""
    return f"edge_{edge[0]}_{edge[1]}"


def cell(candidate: Mapping[str, Value]) -> dict[tuple[int, int], str]:
    """Return the operation of each edge."""
    return {edge: str(candidate[choice(edge)]) for edge in EDGES}


def to_string(candidate: Mapping[str, Value]) -> str:
    """Write a candidate in the benchmark's form, `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`.

    One group a node; `op~i` is the operation on the edge from node i.
    """
    operations = cell(candidate)
    nodes = [
        "".join(f"{operations[source, node]}~{source}|" for source in range(node)) for node in range(1, 4)
    ]
    return "+".join(f"|{node}" for node in nodes)


def from_string(text: str) -> Candidate:
    """Read a candidate from the benchmark's form; the inverse of `to_string`.

    Raises:
        SpaceError: another form, or an unknown operation.
    """
    found = re.findall(r"([^|~+]+)~(\d)", text)
    operations = [operation for operation, _ in found]
    for operation in operations:
        if operation not in OPERATIONS:
            raise SpaceError(
                f"{text!r}: no operation is called {operation!r}. {near_misses(operation, OPERATIONS)}"
            )
    if len(operations) == len(EDGES):
        candidate = Candidate(dict(zip(map(choice, EDGES), operations, strict=True)))
        if to_string(candidate) == text:
            return candidate
    raise SpaceError(f"{text!r} is no NAS-Bench-201 cell: write |op~0|+|op~0|op~1|+|op~0|op~1|op~2|")
