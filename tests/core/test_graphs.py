from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrate.core.graphs import Edge, between, canonical_graph

OPERATIONS = ("conv1x1", "conv3x3", "maxpool3x3")


def nasbench101(vertices: int) -> Iterator[tuple[tuple[str, ...], tuple[Edge, ...]]]:
    """Cells of NAS-Bench-101 (arXiv 1902.09635, section 2.1) in which every vertex matters."""
    possible = list(combinations(range(vertices), 2))
    for used in product((False, True), repeat=len(possible)):
        edges = tuple(edge for edge, taken in zip(possible, used, strict=True) if taken)
        if len(edges) <= 9 and len(between(vertices, edges, 0, vertices - 1)) == vertices:
            for inner in product(OPERATIONS, repeat=vertices - 2):
                yield ("input", *inner, "output"), edges


@pytest.mark.parametrize(("vertices", "count"), [(2, 1), (3, 6), (4, 84), (5, 2441)])
def test_cells_of_nasbench101(vertices: int, count: int) -> None:
    assert len({canonical_graph(labels, edges) for labels, edges in nasbench101(vertices)}) == count


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[str], list[Edge]]:
    labels = draw(st.lists(st.sampled_from("ab"), min_size=1, max_size=7))
    possible = list(combinations(range(len(labels)), 2))
    return labels, draw(st.lists(st.sampled_from(possible), unique=True)) if possible else []


@given(graphs(), st.randoms())
def test_numbering_does_not_matter(graph: tuple[list[str], list[Edge]], rng: random.Random) -> None:
    labels, edges = graph
    places = list(range(len(labels)))
    rng.shuffle(places)
    moved = [""] * len(labels)
    for vertex, place in enumerate(places):
        moved[place] = labels[vertex]
    again = [(places[source], places[target]) for source, target in edges]
    rng.shuffle(again)
    assert canonical_graph(labels, edges) == canonical_graph(moved, again)


@given(graphs())
def test_the_form_is_the_graph(graph: tuple[list[str], list[Edge]]) -> None:
    """So two graphs of one form are isomorphic: to that form."""
    labels, edges = graph
    formed, kept = canonical_graph(labels, edges)
    assert sorted(formed) == sorted(labels)
    assert len(kept) == len(set(edges))
    assert canonical_graph(formed, kept) == (formed, kept)


def test_what_lies_between() -> None:
    assert between(5, [(0, 1), (1, 4), (2, 4), (0, 3)], 0, 4) == {0, 1, 4}
    assert between(2, [], 0, 1) == set()
