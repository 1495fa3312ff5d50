"""Plans on the gradients of a real network keep what they promise when the gradients are sent."""

from __future__ import annotations

import itertools

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from orchestrate.plugins.lgreco.families import QSGD, Dense, PowerSGD, TopK
from orchestrate.plugins.lgreco.planner import plan
from tests.plugins.lgreco.cluster import Cluster

RANKS = 4
CASES = {
    "topk": (TopK(), 0.01, 0.1, 10),
    "topk, half": (TopK(half=True), 0.02, 0.1, 10),
    "powersgd": (PowerSGD(), 4, 0.25, 2),
    "qsgd": (QSGD(bucket=128), 4, 2, 8),
}


@pytest.fixture(scope="module")
def gradients():
    """Mean gradients of ten steps on digits, by layer, after thirty."""
    inputs, labels = load_digits(return_X_y=True)
    inputs, labels = torch.tensor(inputs / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(labels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10),
        )  # fmt: skip
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        total = [torch.zeros_like(one) for one in net.parameters()]
        for step in range(40):
            chosen = torch.randint(0, 1400, (64,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs[chosen]), labels[chosen]).backward()
            if step >= 30:
                for kept, one in zip(total, net.parameters(), strict=True):
                    kept.add_(one.grad, alpha=0.1)
            optimizer.step()
    names = [name for name, one in net.named_parameters() if one.ndim > 1]
    return {name: one for (name, _), one in zip(net.named_parameters(), total, strict=True) if name in names}


def tables(kind, gradients, scale=1.0):
    family, reference, low, high = CASES[kind]
    settings = [family.settings(one.shape, reference, low, high) for one in gradients.values()]
    errors = [
        family.errors(one * scale, each).numpy()
        for one, each in zip(gradients.values(), settings, strict=True)
    ]
    costs = [
        [family.wire_bytes(one.shape, k, RANKS) for k in each]
        for one, each in zip(gradients.values(), settings, strict=True)
    ]
    places = [
        each.index(family.clamp(one.shape, reference))
        for one, each in zip(gradients.values(), settings, strict=True)
    ]
    return family, settings, errors, costs, places


@pytest.mark.parametrize("kind", CASES)
def test_what_is_sent_is_cheaper_and_no_worse_than_uniform(kind, gradients):
    family, settings, errors, costs, reference = tables(kind, gradients)
    made = plan(errors, costs, reference)
    assert made.reason == "dp"
    assert made.cost < made.uniform_cost
    assert 0.9 * made.budget < made.error <= made.budget
    sent, actual = {}, {}
    for name, choices in (("uniform", reference), ("adaptive", made.choices)):
        cluster = Cluster(RANKS, {layer: tuple(one.shape) for layer, one in gradients.items()})
        chosen = [each[k] for each, k in zip(settings, choices, strict=True)]
        for step in range(8):  # PowerSGD's basis comes near the singular vectors
            for layer in itertools.chain(*cluster.layers):
                layer.residual = None
            means = cluster.step(family, chosen, [list(gradients.values())] * RANKS, step)
        sent[name] = cluster.bytes
        actual[name] = sum(
            float((mean - one).norm()) for mean, one in zip(means, gradients.values(), strict=True)
        )
    assert sent["adaptive"] == pytest.approx(made.cost, rel=1e-9)
    assert sent["uniform"] == pytest.approx(made.uniform_cost, rel=1e-9)
    if kind.startswith("topk"):
        assert actual["adaptive"] == pytest.approx(made.error, rel=1e-4)
    assert actual["adaptive"] <= 1.02 * actual["uniform"]


@pytest.mark.parametrize("kind", CASES)
def test_more_error_is_fewer_bytes(kind, gradients):
    *_, errors, costs, reference = tables(kind, gradients)
    found = [plan(errors, costs, reference, alpha=alpha).cost for alpha in (1.0, 1.1, 1.3, 2.0, 5.0)]
    assert all(more >= less for more, less in itertools.pairwise(found))


@pytest.mark.parametrize("kind", CASES)
def test_the_scale_of_a_loss_changes_nothing(kind, gradients):
    *_, errors, costs, reference = tables(kind, gradients)
    *_, scaled, _, _ = tables(kind, gradients, 2.0**-7)
    if kind != "topk, half":  # halves lose bits as numbers get small
        assert (
            plan(errors, costs, reference).choices.tolist() == plan(scaled, costs, reference).choices.tolist()
        )


def test_families_compete_for_each_layer(gradients):
    """With dense settings and another family's beside its own, a plan is no dearer."""
    _, settings, errors, costs, reference = tables("topk", gradients)
    alone = plan(errors, costs, reference)
    dense, power = Dense(), PowerSGD()
    for layer, one in enumerate(gradients.values()):
        for family, more in ((dense, (16, 32)), (power, power.settings(one.shape, 2, 0.5, 2))):
            errors[layer] = [*errors[layer], *family.errors(one, more).tolist()]
            costs[layer] = [*costs[layer], *(family.wire_bytes(one.shape, k, RANKS) for k in more)]
    together = plan(errors, costs, reference)
    assert together.cost < alone.cost
    assert together.error <= together.budget == alone.budget
    assert any(k >= len(each) for k, each in zip(together.choices, settings, strict=True))
