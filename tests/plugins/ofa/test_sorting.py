"""Sorting changes no trained sub-net's function, and does put the important channels first."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orchestrate.core import SpaceError
from orchestrate.plugins.ofa import sorting
from orchestrate.plugins.ofa.sorting import banded, sort_inner, sort_outer
from orchestrate.plugins.ofa.supernet import Supernet, covering
from tests.plugins.ofa.conftest import SHAPE, SPACES, candidates, images, make_supernet

RANKINGS = ["consumer-l1", "own-l1", "norm-scale", "taylor"]


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def of_kinds(space: Any, kinds: set[str], keep: int) -> Any:
    """Whether a gene's value is among the `keep` largest, for genes of these kinds; others are free."""
    lists = {gene.name: gene.options for gene in space.genes}

    def offered(name: str, value: Any) -> bool:
        return name.rpartition(".")[2] not in kinds or value in lists[name][-keep:]

    return offered


@pytest.mark.parametrize("importance", RANKINGS)
def test_a_global_sort_keeps_the_largest(supernet: Supernet, importance: Any) -> None:
    supernet(images()).square().sum().backward()
    with torch.no_grad():
        before = supernet(images())
        sort_inner(supernet, [supernet.space.plan(supernet.space.largest, SHAPE)], importance)
        assert relative(supernet(images()), before) < 1e-5
        once = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
        sort_inner(supernet, [supernet.space.plan(supernet.space.largest, SHAPE)], importance)
        assert all(torch.equal(tensor, once[name]) for name, tensor in supernet.state_dict().items())


def test_channels_come_in_falling_order(supernet: Supernet) -> None:
    sort_inner(supernet, [supernet.space.plan(supernet.space.largest, SHAPE)])
    names = [
        n for n in supernet.network.state_dict() if n.endswith(("project.conv.weight", "restore.conv.weight"))
    ]
    for name in names:
        if ".first." in name:
            continue  # not elastic
        norms = supernet.network.state_dict()[name].double().abs().sum((0, 2, 3))
        norms = norms.view(-1, getattr(supernet.space.options, "group_width", None) or 1).mean(1)
        assert torch.equal(norms, norms.sort(descending=True).values)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_banded_sort_keeps_every_trained_width(space: Any, norm: str) -> None:
    space = type(space)(space.options.model_copy(update={"norm": norm}))
    supernet = make_supernet(space)
    chosen = candidates(space, 10)
    with torch.no_grad():
        before = [supernet(images(), candidate) for candidate in chosen]
        weights = copy.deepcopy(supernet.state_dict())
        sort_inner(supernet, covering(space, SHAPE, lambda name, value: True))
        after = [supernet(images(), candidate) for candidate in chosen]
        changed = any(not torch.equal(t, weights[n]) for n, t in supernet.state_dict().items())
    assert changed
    assert max(relative(new, old) for new, old in zip(after, before, strict=True)) < 1e-5


def test_only_trained_widths_bind(supernet: Supernet) -> None:
    space = supernet.space
    trained = of_kinds(space, {"expand", "width"}, 2)
    chosen = [c for c in candidates(space, 200) if all(trained(name, value) for name, value in c.items())]
    wide = [space.largest, *chosen]
    with torch.no_grad():
        before = [supernet(images(), candidate) for candidate in wide]
        small = supernet(images(), space.smallest)
        sort_inner(supernet, covering(space, SHAPE, trained))
        after = [supernet(images(), candidate) for candidate in wide]
        assert max(relative(new, old) for new, old in zip(after, before, strict=True)) < 1e-5
        assert relative(supernet(images(), space.smallest), small) > 1e-3


@pytest.mark.parametrize("trained", ["largest", "all"])
def test_stage_widths_are_sorted_too(trained: str) -> None:
    cls = SPACES[2]
    supernet = make_supernet(cls(cls.Options(preset="tiny")))
    space = supernet.space
    plans = covering(space, SHAPE, lambda name, value: trained == "all" or value == 1.0)
    chosen = candidates(space, 10) if trained == "all" else [space.largest]
    with torch.no_grad():
        before = [supernet(images(), candidate) for candidate in chosen]
        weights = copy.deepcopy(supernet.state_dict())
        sort_outer(supernet, plans)
        after = [supernet(images(), candidate) for candidate in chosen]
        assert any(not torch.equal(t, weights[n]) for n, t in supernet.state_dict().items())
    assert max(relative(new, old) for new, old in zip(after, before, strict=True)) < 1e-5


def test_fixed_widths_have_no_outer_sort() -> None:
    cls = SPACES[0]
    supernet = make_supernet(cls(cls.Options(preset="tiny")))
    with pytest.raises(SpaceError, match="no elastic widths"):
        sort_outer(supernet, [])


def test_taylor_needs_gradients(supernet: Supernet) -> None:
    with pytest.raises(SpaceError, match="backward"):
        sort_inner(supernet, [supernet.space.plan(supernet.space.largest, SHAPE)], "taylor")


@given(st.lists(st.floats(0, 10), min_size=1, max_size=40), st.sets(st.integers(0, 60)))
def test_bands_hold(scores: list[float], edges: set[int]) -> None:
    importance = torch.tensor(scores)
    order = banded(importance, edges)
    assert sorted(order.tolist()) == list(range(len(scores)))
    for edge in (edge for edge in edges if edge < len(scores)):
        assert set(order[:edge].tolist()) == set(range(edge))
    assert torch.equal(banded(importance[order], edges), torch.arange(len(scores)))


def test_any_permutation_keeps_the_largest(supernet: Supernet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order: all tensors that share channels are permuted alike."""
    generator = torch.Generator().manual_seed(3)

    def shuffled(importance: torch.Tensor, edges: object) -> torch.Tensor:
        return torch.randperm(len(importance), generator=generator)

    monkeypatch.setattr(sorting, "banded", shuffled)
    plans = [supernet.space.plan(supernet.space.largest, SHAPE)]
    with torch.no_grad():
        before = supernet(images())
        small = supernet(images(), supernet.space.smallest)
        sort_inner(supernet, plans)
        if "width" in supernet.space.kinds:
            sort_outer(supernet, plans)
        assert relative(supernet(images()), before) < 1e-5
        assert relative(supernet(images(), supernet.space.smallest), small) > 1e-3
