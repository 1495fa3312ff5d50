"""The form of a NAS-Bench-201 cell that doesn't depend on how it is written.

Two cells have one form when they are the same sum of operations up to the naming of convolutions, which
are told apart only as far as they must be: a convolution that is used twice isn't two. Skips and edges
that lead nowhere vanish. What takes algebra (pooling is linear) is left to the functional tier.

The benchmark's own label (`get_unique_str`, 6,466 of them) serves another end: it forgets which of two
equal-looking convolutions is meant, and so joins c(x) + c(x) of one with that of two.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import permutations, product

Edge = tuple[int, int]
CONVOLUTIONS = ("nor_conv_1x1", "nor_conv_3x3")


def canonical_cell(cell: Mapping[Edge, str]) -> str:
    """Give the cell's canonical form: its output as a sum of terms."""
    return _canonical(tuple(sorted(cell.items())))


@lru_cache(maxsize=4096)
def _canonical(edges: tuple[tuple[Edge, str], ...]) -> str:
    cell = dict(edges)
    reaches = {3}
    for node in (2, 1):
        if any(cell[node, later] != "none" for later in reaches if later > node):
            reaches.add(node)
    live = [
        [edge for edge, operation in edges if operation == kind and edge[1] in reaches]
        for kind in CONVOLUTIONS
    ]
    namings = product(*(permutations(range(len(same))) for same in live))
    forms = (
        _form(
            cell,
            {
                edge: name
                for same, names in zip(live, naming, strict=True)
                for edge, name in zip(same, names, strict=True)
            },
        )
        for naming in namings
    )
    return min(forms)


def _form(cell: Mapping[Edge, str], names: Mapping[Edge, int]) -> str:
    """Write the output as a sum of terms, with these names of its convolutions."""
    nodes: list[list[str]] = [["x"]]
    for node in (1, 2, 3):
        terms: list[str] = []
        for source in range(node):
            operation, inputs = cell[source, node], nodes[source]
            if operation == "skip_connect":
                terms += inputs
            elif operation == "avg_pool_3x3" and inputs:
                terms.append(f"pool({' + '.join(inputs)})")
            elif operation in CONVOLUTIONS:
                terms.append(f"{operation}#{names.get((source, node), -1)}({' + '.join(inputs)})")
        nodes.append(sorted(terms))
    return " + ".join(nodes[3])
