from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrate.core import local_gradient
from orchestrate.core.testing import ExampleLearner

if TYPE_CHECKING:
    import torch


def gradients(learner: ExampleLearner) -> list[torch.Tensor]:
    return [one.grad.clone() for one in learner.model.parameters() if one.grad is not None]


@pytest.mark.parametrize("count", [1, 7, 64])
def test_the_mean_gradient_and_the_mean_loss_are_left(count: int) -> None:
    import torch

    samples = torch.arange(count)
    learner = ExampleLearner()
    loss = local_gradient(learner, samples)
    expected = torch.autograd.grad(learner.loss_sum(samples) / count, list(learner.model.parameters()))
    for found, wanted in zip(gradients(learner), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert loss == pytest.approx(float(learner.loss_sum(samples).detach()) / count)


def test_gradients_of_earlier_calls_are_cleared() -> None:
    import torch

    learner, fresh = ExampleLearner(), ExampleLearner()
    local_gradient(learner, torch.arange(0, 30))
    local_gradient(learner, torch.arange(30, 64))
    local_gradient(fresh, torch.arange(30, 64))
    for found, wanted in zip(gradients(learner), gradients(fresh), strict=True):
        assert torch.equal(found, wanted)
