"""Time as a plan's cost: links fitted, work measured, and dense gradients where the link is free."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from orchestrate.core.testing import Meeting
from orchestrate.plugins.lgreco.costs import (
    SIZES,
    Link,
    compute_seconds,
    fit,
    measure,
    microseconds,
    slowest,
)
from orchestrate.plugins.lgreco.families import QSGD, Dense, PowerSGD, TopK
from orchestrate.plugins.lgreco.planner import plan
from tests.plugins.lgreco.cluster import LOSSY


@pytest.mark.parametrize(("latency", "per_byte"), [(1e-3, 1e-8), (0.0, 1e-8), (1e-3, 0.0), (1e-6, 1e-10)])
def test_a_link_is_found_again(latency, per_byte):
    sent = np.array([1e3, 1e4, 1e6, 1e7])
    found = fit(sent, latency + per_byte * sent)
    assert found.latency == pytest.approx(latency, rel=1e-6, abs=1e-12)
    assert found.per_byte == pytest.approx(per_byte, rel=1e-6, abs=1e-18)
    assert found.seconds(5e6, 2) == pytest.approx(2 * latency + per_byte * 5e6)


def test_noise_leaves_neither_part_below_zero():
    rng = np.random.default_rng(0)
    sent = np.array([1e3, 1e4, 1e6, 1e7])
    for _ in range(50):
        found = fit(sent, (1e-7 + 1e-9 * sent) * np.exp(rng.normal(0, 0.5, 4)))
        assert found.latency >= 0
        assert 2e-10 < found.per_byte < 5e-9
    assert fit(sent, [4.0, 3.0, 2.0, 1.0]).per_byte == 0
    with pytest.raises(ValueError, match="two sizes"):
        fit([5, 5], [1, 2])


class Clock:
    """Virtual time that a group's messages take."""

    def __init__(self, group, latency, per_byte):
        self.group, self.latency, self.per_byte, self.now = group, latency, per_byte, 0.0
        self.rank, self.size = group.rank, group.size

    def __call__(self):
        return self.now

    def all_reduce(self, tensor):
        self.now += (1 + self.rank) * (
            self.latency + self.per_byte * 2 * (self.size - 1) / self.size * tensor.nbytes
        )
        self.group.all_reduce(tensor)

    def all_gather(self, tensor):
        self.now += (1 + self.rank) * (self.latency + self.per_byte * (self.size - 1) * tensor.nbytes)
        return self.group.all_gather(tensor)


def test_all_ranks_have_the_slowest_one_s_link():
    def work(group):
        timed = Clock(group, 1e-4, 1e-9)
        return measure(timed, sizes=SIZES[:3], repeats=3, clock=timed)

    found = Meeting(3).run(work)
    assert found[0] == found[1] == found[2]
    for link in found[0].values():
        assert link.latency == pytest.approx(3e-4)
        assert link.per_byte == pytest.approx(3e-9)


def test_a_group_of_one_has_a_link_that_costs_nothing():
    assert Meeting(1).run(measure) == [{"all_reduce": Link(0, 0), "all_gather": Link(0, 0)}]


def test_real_clocks_give_real_links():
    found = Meeting(2).run(lambda group: measure(group, sizes=SIZES[:3], repeats=2))
    assert found[0] == found[1]
    assert all(link.latency + link.per_byte > 0 for link in found[0].values())


def test_the_slowest_of_each():
    def work(group):
        return slowest(group, [[1.0, 5.0 - group.rank], [group.rank, 0.0]]).tolist()

    assert Meeting(3).run(work) == [[[1.0, 5.0], [2.0, 0.0]]] * 3


@pytest.mark.parametrize("kind", LOSSY)
def test_work_is_timed_at_some_settings_and_interpolated(kind):
    family, reference = LOSSY[kind]
    settings = family.settings((20, 30), reference, *family.bounds)
    ticks = iter(range(1000))
    lock = threading.Lock()

    def clock():
        with lock:
            return float(next(ticks) ** 2)  # each call takes longer than the last

    found = compute_seconds(family, (20, 30), settings, 4, points=3, repeats=2, clock=clock)
    assert found.shape == (len(settings),)
    assert (np.diff(found) >= 0).all()
    assert found[0] == 5.0  # from tick 2 to tick 3: the first repeat only warms up
    assert next(ticks) == min(3, len(settings)) * 3 * 2


def costs(families, shapes, ranks, links):
    """(layers, settings of all families) errors and costs of random gradients."""
    errors, prices = [], []
    for index, shape in enumerate(shapes):
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(index)) ** 3
        row, price = [], []
        for family, reference in families:
            settings = family.settings(shape, reference, *family.bounds)
            work = compute_seconds(family, shape, settings, ranks, points=2, repeats=2)
            row += family.errors(gradient, settings).tolist()
            price += microseconds(family, shape, settings, ranks, links[family.collective], work).tolist()
        errors.append(row)
        prices.append(price)
    return errors, prices


FAMILIES = [(Dense(), 32), (TopK(points=8), 0.01), (QSGD(), 4), (PowerSGD(), 4)]


@pytest.mark.parametrize(("per_byte", "dense"), [(0.0, True), (1e-7, False)])
def test_dense_where_the_link_is_free_and_compressed_where_it_is_slow(per_byte, dense):
    shapes = [(128, 512), (64, 64, 3, 3)]
    link = Link(1e-4, per_byte)
    errors, prices = costs(FAMILIES, shapes, 4, {"all_reduce": link, "all_gather": link})
    made = plan(errors, prices, [5, 5])
    assert all((choice < 2) == dense for choice in made.choices)


def test_costs_are_whole_microseconds():
    family, shape = Dense(), (1000,)
    found = microseconds(family, shape, [16, 32], 4, Link(5.0, 1e-9), [1e-6, 2e-6])
    assert found.tolist() == [4, 8]
    assert found.dtype == np.int64
