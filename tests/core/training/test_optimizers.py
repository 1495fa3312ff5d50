import pytest
import torch
from torch import nn

from orchestrate.core.training.optimizers import make_optimizer, set_learning_rate
from orchestrate.core.training.options import TrainingOptions


def network():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)],
)
def test_each_name_is_its_optimiser_with_the_decay(name, kind):
    optimizer = make_optimizer(network(), TrainingOptions(optimizer=name, weight_decay=0.25))
    assert type(optimizer) is kind
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.25]
    assert len(optimizer.param_groups[0]["params"]) == 6


def test_norms_and_biases_can_go_without_decay():
    options = TrainingOptions(weight_decay=0.25, decay_norm_and_bias=False)
    optimizer = make_optimizer(network(), options)
    decays = {
        tuple(parameter.shape): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert decays == {(2, 1, 3, 3): 0.25, (3, 2): 0.25, (2,): 0.0, (3,): 0.0}


def test_frozen_parameters_are_left_out():
    model = network()
    model[0].requires_grad_(False)
    assert len(make_optimizer(model, TrainingOptions()).param_groups[0]["params"]) == 4


def test_no_momentum_means_no_nesterov():
    optimizer = make_optimizer(network(), TrainingOptions(momentum=0))
    assert optimizer.param_groups[0]["nesterov"] is False


def test_the_rate_is_set_in_every_group():
    optimizer = make_optimizer(network(), TrainingOptions(decay_norm_and_bias=False))
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]
