"""When are two NAS-Bench-201 cells the same function? Answered by algebra, without running one.

Shares no code with the plugin. A node is a formal sum of terms; a convolution is a free function with a
name of its own, and two cells are the same if some renaming of convolutions makes their sums equal.
The rules: average pooling (without padding) is linear and leaves constants alone; ReLU, convolution and
BatchNorm in a row map 0 to the BatchNorm's shift; a 1x1 convolution of constants is constant, so its
BatchNorm leaves nothing but the shift.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import permutations, product
from math import gcd
from typing import Any, Literal

Rule = Literal["fresh", "scale-free", "trained"]
"""fresh: shifts are 0. scale-free: besides, BatchNorm's eps is 0. trained: each shift is a number."""

Sum = tuple[tuple[Any, int], ...]  # (term, how often), sorted
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


@cache
def classes(rule: Rule) -> dict[tuple[str, ...], Any]:
    """Each cell (an operation an edge) with the name of its class."""
    return {cell: class_of(cell, rule) for cell in product(OPERATIONS, repeat=6)}


def class_of(cell: tuple[str, ...], rule: Rule, *, kinds: bool = False, merges: bool = True) -> Any:
    """Name the cell's class. With `kinds`, a shift is told apart by the convolution before it; without
    `merges`, a 1x1 convolution of constants isn't seen to be one.
    """
    nodes: list[Counter[Any]] = [Counter({("x",): 1})]
    for node in (1, 2, 3):
        total: Counter[Any] = Counter()
        for name, (edge, operation) in enumerate(zip(EDGES, cell, strict=True)):
            if edge[1] == node:
                total.update(applied(operation, name, nodes[edge[0]], rule, kinds=kinds, merges=merges))
        nodes.append(total)
    return least_naming(frozen(nodes[3]))


def applied(
    operation: str, name: int, inputs: Counter[Any], rule: Rule, *, kinds: bool, merges: bool
) -> Counter[Any]:
    if operation == "none":
        return Counter()
    if operation == "skip_connect":
        return inputs
    if operation == "avg_pool_3x3":
        pooled: Counter[Any] = Counter()
        for term, count in inputs.items():
            pooled[term if term[0].startswith("shift") else ("pool", term)] += count
        return pooled
    if not inputs and rule != "trained":
        return Counter()
    constant = merges and operation == "nor_conv_1x1" and all(term[0].startswith("shift") for term in inputs)
    if not inputs or constant:
        return Counter({(f"shift {operation}" if kinds else "shift", name): 1})
    if rule == "scale-free":
        common = gcd(*inputs.values())
        inputs = Counter({term: count // common for term, count in inputs.items()})
    return Counter({(operation, name, frozen(inputs)): 1})


def frozen(terms: Counter[Any]) -> Sum:
    return tuple(sorted(terms.items(), key=repr))


@cache
def least_naming(terms: Sum) -> str:
    kinds: dict[str, set[int]] = {}
    collect(terms, kinds)
    ordered = [(kind, sorted(names)) for kind, names in sorted(kinds.items())]
    return min(
        repr(
            renamed(
                terms,
                {
                    (kind, old): new
                    for (kind, _), row in zip(ordered, rows, strict=True)
                    for new, old in enumerate(row)
                },
            )
        )
        for rows in product(*(permutations(names) for _, names in ordered))
    )


def collect(terms: Sum, kinds: dict[str, set[int]]) -> None:
    for outer, _ in terms:
        term = outer
        while term[0] == "pool":
            term = term[1]
        if term[0] != "x":
            kinds.setdefault(term[0], set()).add(term[1])
        if len(term) == 3:
            collect(term[2], kinds)


def renamed(terms: Sum, names: dict[tuple[str, int], int]) -> Sum:
    return frozen(Counter({rename(term, names): count for term, count in terms}))


def rename(term: Any, names: dict[tuple[str, int], int]) -> Any:
    if term[0] == "x":
        return term
    if term[0] == "pool":
        return ("pool", rename(term[1], names))
    name = names[term[0], term[1]]
    return (term[0], name, renamed(term[2], names)) if len(term) == 3 else (term[0], name)


def published_label(cell: tuple[str, ...]) -> str:
    """The benchmark's own label, which is structural: see its `to_unique_str`, considering zeros."""
    nodes = ["x"]
    for node in (1, 2, 3):
        parts: list[str] = []
        for (source, target), operation in zip(EDGES, cell, strict=True):
            if target != node:
                continue
            label = nodes[source]
            if operation == "none" or label == "#":
                parts.append("#")
            elif operation == "skip_connect":
                parts.append(label)
            else:
                parts.append(f"({label})@{operation}")
        nodes.append("+".join(sorted(parts)))
    return nodes[3]
