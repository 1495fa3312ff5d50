"""The cell space of NAS-Bench-101: small graphs whose vertices are operations."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from math import comb
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveInt

from ...core import Candidate, Choose, PluginOptions, SearchSpace, Shape, Value
from ...core.graphs import Edge, Form, between, canonical_graph
from ...core.probe import NetworkProbe

if TYPE_CHECKING:
    from torch import nn

OPERATIONS = ("conv1x1-bn-relu", "conv3x3-bn-relu", "maxpool3x3")
"""The operations by the benchmark's names."""

MOST_EDGES = 9
WIDTH, DEPTH = 128, 3
"""Channels of the first stack and cells a stack, as measured by the benchmark."""

PROBED = (4, 12, 8)
"""Input and output channels, and height and width, of the cell that stands for its network in a fingerprint.
A cell has at most four branches, so that twelve channels are dealt evenly."""


class NasBench101Options(PluginOptions):
    """Options of `nasbench101`."""

    vertices: int = Field(default=7, ge=2, le=7, description="Most vertices of a cell, both ends included.")
    width: int = Field(default=WIDTH, ge=4, description="Channels of the first stack.")
    depth: PositiveInt = Field(default=DEPTH, description="Cells in each of three stacks.")


class NasBench101(SearchSpace[NasBench101Options]):
    """Cells of up to seven vertices and nine edges; each vertex between input and output is an operation.

    Every vertex but the input has an edge into it, so that the output is always reached; vertices that
    don't reach the output are dead, and fall away. The network around the cell is the paper's: three
    stacks of `depth` equal cells, halving the image and doubling the channels in between.

    Ying et al., "NAS-Bench-101", arXiv 1902.09635, section 2. The benchmark's own table isn't part of it.
    """

    name: ClassVar[str] = "nasbench101"
    summary: ClassVar[str] = "the cells of NAS-Bench-101, up to seven vertices and nine edges"

    def choices(self, choose: Choose) -> None:
        vertices = choose.integer("vertices", 2, self.options.vertices)
        for vertex in range(1, vertices - 1):
            choose.categorical(f"vertex_{vertex}", OPERATIONS)
        drawn_edges(vertices, lambda edge: bool(choose.categorical(choice(edge), [False, True])))

    def size(self) -> int:
        return sum(
            len(OPERATIONS) ** (vertices - 2) * count_edges(vertices)
            for vertices in range(2, self.options.vertices + 1)
        )

    def build(self, candidate: Candidate, shape: Shape) -> nn.Module:
        from .network101 import GraphNetwork

        return GraphNetwork(ordered(self.graph(candidate)), shape, self.options.width, self.options.depth)

    def canonical(self, candidate: Candidate) -> Any:
        return self.graph(candidate)

    def probe(self, candidate: Candidate, shape: Shape) -> NetworkProbe:
        """Compare cells alone, narrow ones, by their branches: the order of channels doesn't matter to
        what follows.
        """
        from .network101 import ReadOut

        inputs, outputs, side = PROBED
        graph = ordered(self.graph(candidate))
        return NetworkProbe(lambda: ReadOut(graph, inputs, outputs), (inputs, side, side))

    def graph(self, candidate: Mapping[str, Value]) -> Form:
        """The cell without its dead vertices, in a form that no numbering changes."""
        return living(*read(candidate))


def choice(edge: Edge) -> str:
    """Name the choice of whether `edge` is there."""
    return f"edge_{edge[0]}_{edge[1]}"


def drawn_edges(vertices: int, take: Callable[[Edge], bool]) -> list[Edge]:
    """Ask edge by edge; what the rules leave no choice about isn't asked."""
    found: list[Edge] = []
    for target in range(1, vertices):
        later = vertices - 1 - target  # vertices that need an edge yet
        for source in range(target):
            alone = source == target - 1 and all(edge[1] != target for edge in found)
            if alone or (len(found) + later < MOST_EDGES and take((source, target))):
                found.append((source, target))
    return found


def count_edges(vertices: int) -> int:
    """How many sets of edges `drawn_edges` can give."""
    ways = {0: 1}  # by the edges used
    for target in range(1, vertices):
        later = vertices - 1 - target
        after: dict[int, int] = {}
        for used, count in ways.items():
            for degree in range(1, min(target, MOST_EDGES - later - used) + 1):
                after[used + degree] = after.get(used + degree, 0) + count * comb(target, degree)
        ways = after
    return sum(ways.values())


def read(candidate: Mapping[str, Value]) -> tuple[list[str], list[Edge]]:
    """Labels and edges as they were chosen."""
    vertices = int(str(candidate["vertices"]))
    inner = [str(candidate[f"vertex_{vertex}"]) for vertex in range(1, vertices - 1)]
    return ["input", *inner, "output"], drawn_edges(vertices, lambda edge: bool(candidate[choice(edge)]))


def living(labels: list[str], edges: list[Edge]) -> Form:
    """Drop the vertices that are on no path from input to output, and give the canonical form."""
    kept = sorted(between(len(labels), edges, 0, len(labels) - 1))
    place = {vertex: index for index, vertex in enumerate(kept)}
    return canonical_graph(
        [labels[vertex] for vertex in kept],
        [(place[a], place[b]) for a, b in edges if a in place and b in place],
    )


def ordered(form: Form) -> Form:
    """Number the vertices so that edges go up, from the input (0) to the output (last)."""
    labels, edges = form
    waiting = {vertex: sum(target == vertex for _, target in edges) for vertex in range(len(labels))}
    ready = [vertex for vertex, count in waiting.items() if count == 0]
    order: list[int] = []
    while ready:
        vertex = heapq.heappop(ready)
        order.append(vertex)
        for source, target in edges:
            if source == vertex:
                waiting[target] -= 1
                if waiting[target] == 0:
                    heapq.heappush(ready, target)
    place = {vertex: index for index, vertex in enumerate(order)}
    return tuple(labels[vertex] for vertex in order), tuple(sorted((place[a], place[b]) for a, b in edges))
