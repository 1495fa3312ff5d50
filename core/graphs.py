"""Canonical forms of small graphs with labelled vertices: for `canonical` of spaces of cells."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby
from typing import Any, TypeAlias

Edge: TypeAlias = tuple[int, int]
Form: TypeAlias = tuple[tuple[str, ...], tuple[Edge, ...]]


def between(vertices: int, edges: Collection[Edge], first: int, last: int) -> set[int]:
    """Vertices of a directed acyclic graph on a path from `first` to `last`: the ones that matter."""
    after, before = {first}, {last}
    for _ in range(vertices):
        after |= {target for source, target in edges if source in after}
        before |= {source for source, target in edges if target in before}
    return after & before


def canonical_graph(labels: Sequence[str], edges: Collection[Edge]) -> Form:
    """Give the form that a directed graph has under any numbering of its vertices.

    Two graphs have one form exactly when they are isomorphic, labels included. Vertices are told apart by
    refining their labels with their neighbours'; where that ends in a tie, each of the tied is tried first
    (McKay, "Practical graph isomorphism", 1981, without pruning by automorphisms). Meant for cells: some
    tens of vertices, unless very many are interchangeable.
    """
    sources: list[list[int]] = [[] for _ in labels]
    targets: list[list[int]] = [[] for _ in labels]
    for source, target in edges:
        targets[source].append(target)
        sources[target].append(source)

    def refined(colours: list[int]) -> list[int]:
        while True:
            seen = [
                (
                    colours[vertex],
                    sorted(colours[other] for other in sources[vertex]),
                    sorted(colours[other] for other in targets[vertex]),
                )
                for vertex in range(len(labels))
            ]
            new = _ranks(seen)
            if max(new, default=0) == max(colours, default=0):
                return new
            colours = new

    def forms(colours: list[int]) -> Form:
        tied = next((colour for colour in colours if colours.count(colour) > 1), None)
        if tied is None:
            order = sorted(range(len(labels)), key=colours.__getitem__)
            moved = sorted((colours[source], colours[target]) for source, target in set(edges))
            return tuple(labels[vertex] for vertex in order), tuple(moved)
        smallest = min(colour for colour in set(colours) if colours.count(colour) > 1)
        members = [vertex for vertex, colour in enumerate(colours) if colour == smallest]
        return min(
            forms(refined(_ranks([(colour, vertex != one) for vertex, colour in enumerate(colours)])))
            for one in members
        )

    return forms(refined(_ranks(list(labels))))


def _ranks(values: Sequence[Any]) -> list[int]:
    """Number values by their order; equal ones alike."""
    order = {repr(value): rank for rank, (value, _) in enumerate(groupby(sorted(values)))}
    return [order[repr(value)] for value in values]
