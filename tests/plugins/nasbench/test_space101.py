"""NAS-Bench-101's cells: what they are, and that their function is what their graph says."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest
import torch

from orchestrate.core import Candidate, NetworkProbe, Shape, digest, enumerate_candidates
from orchestrate.core.graphs import Edge, Form, canonical_graph
from orchestrate.core.training.count import parameters
from orchestrate.plugins.functional_hash.network import NetworkSettings, probe_network
from orchestrate.plugins.functional_hash.signature import keyed
from orchestrate.plugins.nasbench.network101 import GraphNetwork, ReadOut, vertex_channels
from orchestrate.plugins.nasbench.space101 import (
    OPERATIONS,
    PROBED,
    NasBench101,
    NasBench101Options,
    living,
    ordered,
)
from tests.core.test_graphs import nasbench101

CONV1, CONV3, POOL = OPERATIONS
# The cell that the benchmark's authors show: three branches and a shortcut through pooling.
INCEPTION = (
    ("input", CONV1, CONV3, CONV3, CONV3, POOL, "output"),
    ((0, 1), (0, 2), (0, 3), (0, 5), (1, 6), (2, 6), (3, 4), (4, 6), (5, 6)),
)


def space(vertices: int) -> NasBench101:
    return NasBench101(NasBench101Options(vertices=vertices, width=12, depth=1))


@pytest.mark.parametrize("vertices", [2, 3, 4])
def test_every_written_cell_is_a_candidate_once(vertices: int) -> None:
    found = list(enumerate_candidates(space(vertices)))
    assert len(set(found)) == len(found) == space(vertices).size()
    forms = {space(vertices).graph(candidate) for candidate in found}
    assert len(forms) == sum([1, 6, 84][: vertices - 1])


def test_the_largest_space_holds_the_published_cells_and_more() -> None:
    """As many written cells of seven vertices as there are, and dead vertices besides."""
    assert NasBench101().size() > 423_624


def test_parameters_are_the_published_ones() -> None:
    with torch.device("meta"):
        model = GraphNetwork(INCEPTION, Shape((3, 32, 32), 10), 128, 3)
    assert parameters(model) == 2_694_282


def test_channels_are_dealt_among_the_branches() -> None:
    labels, edges = INCEPTION
    assert vertex_channels(len(labels), edges, 128, 256) == [128, 64, 64, 64, 64, 64, 256]
    uneven = [(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)]
    assert vertex_channels(5, uneven, 8, 128) == [8, 43, 43, 42, 128]


def test_a_cell_computes_what_its_graph_says() -> None:
    torch.manual_seed(0)
    graph = (("input", CONV3, POOL, "output"), ((0, 1), (0, 3), (1, 2), (1, 3), (2, 3)))
    cell = ReadOut(graph, 4, 6).cell.eval()
    inputs = torch.randn(2, 4, 5, 5)
    first = cell.operations["1"](cell.projections["1"](inputs))
    pooled = torch.nn.functional.max_pool2d(first, 3, 1, 1)
    branches = [first + cell.shortcuts["1"](inputs), pooled + cell.shortcuts["2"](inputs)]
    assert torch.equal(cell(inputs), torch.cat(branches, dim=1))


def key(form: Form) -> str:
    inputs, outputs, side = PROBED
    probe = NetworkProbe(lambda: ReadOut(form, inputs, outputs), (inputs, side, side))
    return keyed("", probe_network(probe, NetworkSettings(examples=4)).values, 1e-6)[0]


def renumbered(labels: tuple[str, ...], edges: tuple[Edge, ...], rng: random.Random) -> Form:
    """The same cell with its inner vertices in another order, edges still going up."""
    inner = list(range(1, len(labels) - 1))
    while True:
        places = dict(zip(inner, rng.sample(inner, len(inner)), strict=True))
        places |= {0: 0, len(labels) - 1: len(labels) - 1}
        moved = tuple(sorted((places[a], places[b]) for a, b in edges))
        if all(a < b for a, b in moved):
            back = {place: vertex for vertex, place in places.items()}
            return tuple(labels[back[place]] for place in range(len(labels))), moved


def canonical(form: Form) -> Form:
    return canonical_graph(form[0], form[1])


def test_functions_are_graphs() -> None:
    """Up to four vertices all cells, in every order of their vertices; of five, some, in two."""
    rng = random.Random(0)
    chosen = [(labels(one), one[1]) for size in (2, 3, 4) for one in nasbench101(size)]
    large = [(labels(one), one[1]) for one in nasbench101(5)]
    for one in rng.sample(large, 40):
        chosen += [one, renumbered(*one, rng)]
    keys: dict[str, set[Form]] = defaultdict(set)
    names: dict[Form, set[str]] = defaultdict(set)
    for one in chosen:
        name = key(one)
        keys[name].add(canonical(one))
        names[canonical(one)].add(name)
    assert [forms for forms in names.values() if len(forms) > 1] == []
    assert [forms for forms in keys.values() if len(forms) > 1] == []


def labels(cell: tuple[tuple[str, ...], tuple[Edge, ...]]) -> tuple[str, ...]:
    names = {"conv1x1": CONV1, "conv3x3": CONV3, "maxpool3x3": POOL}
    return tuple(names.get(label, label) for label in cell[0])


def test_dead_vertices_fall_away() -> None:
    made: dict[str, Any] = {"vertices": 4, "vertex_1": CONV3, "vertex_2": POOL}
    edges = {"edge_0_2": True, "edge_1_2": True, "edge_0_3": False, "edge_1_3": True}
    dead = Candidate({**made, **edges, "edge_2_3": False})
    alone = Candidate({"vertices": 3, "vertex_1": CONV3, "edge_0_2": False, "edge_1_2": True})
    assert digest(space(4).canonical(dead)) == digest(space(4).canonical(alone))
    one, two = (space(4).probe(each, Shape((1, 8, 8), 10)) for each in (dead, alone))
    assert keyed("", probe_network(one, NetworkSettings()).values, 1e-6) == keyed(
        "", probe_network(two, NetworkSettings()).values, 1e-6
    )


def test_the_order_of_a_form_goes_up() -> None:
    for one in list(nasbench101(5))[::97]:
        form = living(list(one[0]), list(one[1]))
        names, edges = ordered(form)
        assert all(source < target for source, target in edges)
        assert (names[0], names[-1]) == ("input", "output")
        assert canonical_graph(names, edges) == form
