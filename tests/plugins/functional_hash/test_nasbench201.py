"""The functional key of NAS-Bench-201's cells, against algebra: a sample here, all 15,625 in
benchmarks/functional_hash_counts.py.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Any

import pytest
import torch

from orchestrate.core import Candidate, NetworkProbe, digest, enumerate_candidates
from orchestrate.plugins.functional_hash.addressing import Addressed, any_value
from orchestrate.plugins.functional_hash.network import NetworkSettings, probe_network
from orchestrate.plugins.functional_hash.numbers import frozen, project, seed_of
from orchestrate.plugins.functional_hash.signature import keyed
from orchestrate.plugins.functional_hash.tensors import numbers_of, tensor_of
from orchestrate.plugins.nasbench.network import CellBlock
from orchestrate.plugins.nasbench.space import NasBench201
from orchestrate.plugins.nasbench.space import choice as choice_of
from tests.plugins.functional_hash.symbolic import (
    EDGES,
    OPERATIONS,
    Rule,
    class_of,
    classes,
    published_label,
)

CELLS = list(product(OPERATIONS, repeat=6))
SHAPE = (3, 4, 4)
Cell = tuple[str, ...]


def network(cell: Cell, rule: Rule = "trained") -> torch.nn.Module:
    built = CellBlock(dict(zip(EDGES, cell, strict=True)), SHAPE[0])
    if rule == "scale-free":
        for module in built.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = 1e-24
    return built


def key(cell: Cell, rule: Rule, trace: int = 0) -> str:
    settings = NetworkSettings("trained" if rule == "trained" else "fresh", examples=4, trace=trace)
    probe = NetworkProbe(lambda: network(cell, rule), SHAPE)
    return keyed("", probe_network(probe, settings).values, 1e-6)[0]


def confused(names: Mapping[Cell, Any], truth: Mapping[Cell, Any]) -> tuple[int, int]:
    """How many names mix classes, and how many classes are split over names."""
    mixed: dict[Any, set[Any]] = defaultdict(set)
    split: dict[Any, set[Any]] = defaultdict(set)
    for cell, name in names.items():
        mixed[name].add(truth[cell])
        split[truth[cell]].add(name)
    return sum(len(found) > 1 for found in mixed.values()), sum(len(found) > 1 for found in split.values())


def telling(rule: Rule, families: int, rng: random.Random) -> list[Cell]:
    """Cells near the borders: members of one class that are labelled differently, so that they must be
    merged, and members of one label that are of different classes, so that they must not.
    """
    truth = classes(rule)
    by_class: dict[Any, dict[str, Cell]] = defaultdict(dict)
    by_label: dict[str, dict[Any, Cell]] = defaultdict(dict)
    for cell in CELLS:
        by_class[truth[cell]].setdefault(published_label(cell), cell)
        by_label[published_label(cell)].setdefault(truth[cell], cell)
    chosen: list[Cell] = []
    for groups in (by_class, by_label):
        several = [list(members.values()) for members in groups.values() if len(members) > 1]
        for members in rng.sample(several, families):
            chosen += members[:4]
    return list(dict.fromkeys(chosen))


def test_the_algebra_gives_the_published_counts() -> None:
    counts = {rule: len(set(classes(rule).values())) for rule in ("fresh", "scale-free", "trained")}
    assert counts == {"fresh": 5044, "scale-free": 4954, "trained": 5224}
    assert len(set(map(published_label, CELLS))) == 6466


@pytest.mark.parametrize("merges_constants", [True, False])
def test_trained_classes_if_a_shift_remembers_its_convolution(merges_constants: bool) -> None:
    """A convolution of nothing leaves its BatchNorm's shift, whatever its kernel. Telling shifts of 1x1
    and 3x3 convolutions apart, as weights seeded by the type of operation do, splits 300 classes.
    """
    truth = {cell: class_of(cell, "trained", kinds=True, merges=merges_constants) for cell in CELLS}
    assert len(set(truth.values())) == (5524 if merges_constants else 5554)
    assert confused(classes("trained"), truth)[1] == 0  # coarser, and nothing else


@pytest.mark.parametrize("rule", ["fresh", "scale-free", "trained"])
def test_keys_are_the_classes_at_every_border(rule: Rule) -> None:
    cells = telling(rule, 50, random.Random(rule))
    truth = {cell: class_of(cell, rule) for cell in cells}
    assert len(cells) > 150
    assert confused({cell: key(cell, rule) for cell in cells}, truth) == (0, 0)


def test_the_trace_neither_merges_nor_splits() -> None:
    cells = telling("trained", 25, random.Random(1))
    truth = {cell: class_of(cell, "trained") for cell in cells}
    assert confused({cell: key(cell, "trained", trace=2) for cell in cells}, truth) == (0, 0)


def test_what_training_could_not_tell_apart_is_merged() -> None:
    """The 300 classes that `trained` merges beyond those (above) are told apart by no training: ten steps of
    gradient descent lose the same, whichever kernel stood before the shift.
    """
    coarse = classes("trained")
    fine = {cell: class_of(cell, "trained", kinds=True) for cell in CELLS}
    members: dict[Any, dict[Any, Cell]] = defaultdict(dict)
    for cell in CELLS:
        members[coarse[cell]].setdefault(fine[cell], cell)
    merged = [list(found.values()) for found in members.values() if len(found) > 1]
    assert sum(len(found) - 1 for found in merged) == 300
    for cells in random.Random(0).sample(merged, 25):
        assert len({key(cell, "trained", trace=10) for cell in cells}) == 1


def test_gradients_that_a_candidate_left_off_change_no_key() -> None:
    cell = ("nor_conv_1x1", "nor_conv_1x1", "none", "nor_conv_3x3", "skip_connect", "skip_connect")
    before = key(cell, "trained", trace=2)
    with torch.no_grad():
        assert key(cell, "trained", trace=2) == before


def outputs(cell: Cell, draw: Callable[[torch.nn.Module], None]) -> bytes:
    inputs = tensor_of(frozen(4 * 48, "test"), (4, *SHAPE))
    torch.manual_seed(0)
    model = network(cell, "fresh").double()
    draw(model)
    with torch.no_grad():
        return (project(numbers_of(model(inputs))) / 1e-6).round().tobytes()


def names(cells: Iterable[Cell], draw: Callable[[torch.nn.Module], None]) -> dict[Cell, bytes]:
    return {cell: outputs(cell, draw) for cell in cells}


def test_one_generator_in_the_order_of_modules_splits() -> None:
    cells = telling("fresh", 120, random.Random(2))
    truth = {cell: class_of(cell, "fresh") for cell in cells}
    mixed, split = confused(names(cells, lambda model: None), truth)
    assert mixed == 0
    assert split > 10


def test_a_seed_for_each_type_of_operation_mixes() -> None:
    def by_type(model: torch.nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                with torch.no_grad():
                    any_value(module.weight, "weight", seed_of(str(module)))

    cells = telling("fresh", 120, random.Random(2))
    truth = {cell: class_of(cell, "fresh") for cell in cells}
    mixed, split = confused(names(cells, by_type), truth)
    assert mixed > 20
    assert split == 0


def test_structural_forms_never_merge_two_functions() -> None:
    """Under every semantics; and they are sound without running anything: 5,875 forms."""
    space = NasBench201()
    forms = {
        tuple(candidate.values()): digest(space.canonical(candidate))
        for candidate in enumerate_candidates(space)
    }
    assert len(set(forms.values())) == 5875
    for rule in ("fresh", "scale-free", "trained"):
        assert confused(forms, classes(rule))[0] == 0


def test_whole_networks_of_equal_cells_are_found_equal() -> None:
    """Without the space's own probe: the default way, through `build`, with many siblings."""
    from orchestrate.core import Shape
    from orchestrate.plugins.nasbench.network import CellNetwork

    one = ("nor_conv_1x1", "nor_conv_3x3", "none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1")
    two = ("nor_conv_3x3", "nor_conv_1x1", "none", "skip_connect", "nor_conv_1x1", "avg_pool_3x3")
    other = ("nor_conv_3x3", "nor_conv_1x1", "none", "skip_connect", "nor_conv_3x3", "avg_pool_3x3")
    siblings = ("nor_conv_1x1", "nor_conv_1x1", "none", "nor_conv_1x1", "skip_connect", "nor_conv_3x3")
    renamed = ("nor_conv_1x1", "nor_conv_1x1", "none", "nor_conv_1x1", "nor_conv_3x3", "skip_connect")

    def name(cell: Cell) -> str:
        shape = Shape((3, 8, 8), 3)
        probe = NetworkProbe(
            lambda: CellNetwork(dict(zip(EDGES, cell, strict=True)), shape, 4, 2), shape.input
        )
        return keyed("", probe_network(probe, NetworkSettings()).values, 1e-6)[0]

    assert class_of(one, "trained") == class_of(two, "trained") != class_of(other, "trained")
    assert name(one) == name(two) != name(other)
    assert name(siblings) == name(renamed)


def test_address_of_siblings_counts_them_apart() -> None:
    model = network(("nor_conv_1x1", "nor_conv_1x1", "none", "none", "skip_connect", "skip_connect")).double()
    addressed = Addressed(model, 0)
    inputs = tensor_of(frozen(4 * 48, "test"), (4, *SHAPE))
    addressed.run(inputs, any_value)
    sizes = sorted(len(group) for group in addressed.groups.values())
    assert sizes == [1, 1, 2]  # two BatchNorms of different inputs, two convolutions of the same


def test_candidates_of_the_space_are_probed_as_cells() -> None:
    space = NasBench201()
    candidate = Candidate(dict(zip(map(choice_of, EDGES), CELLS[77], strict=True)))
    from orchestrate.core import Shape

    probe = space.probe(candidate, Shape((3, 32, 32), 10))
    assert isinstance(probe.build(), CellBlock)
