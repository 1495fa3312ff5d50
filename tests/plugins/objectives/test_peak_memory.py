from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from orchestrate.core import Candidate, Shape
from orchestrate.plugins.objectives import PeakMemory
from orchestrate.plugins.objectives._live import LiveTensors
from tests.plugins.objectives.networks import SHAPE, Small

CPU = torch.device("cpu")
FLOAT = 4


def measured(model: nn.Module, shape: Shape = SHAPE, **options) -> float:
    return PeakMemory(PeakMemory.Options.model_validate(options)).measure(model, shape, CPU)


# By hand --------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_chain_of_layers_by_hand(batch_size):
    model = nn.Sequential(nn.Linear(10, 40), nn.ReLU(), nn.Linear(40, 30), nn.Flatten())
    weights = (10 * 40 + 40) + (40 * 30 + 30)
    alive = 10 + 40 + 40  # input, first layer and its ReLU; a view of the last takes nothing
    value = measured(model, Shape((10,), 30), batch_size=batch_size)
    assert value == FLOAT * (weights + batch_size * alive)


def test_a_convolutional_network_by_hand():
    width = 4
    model = Small().build(Candidate({"width": width}), SHAPE)
    weights = (27 * width + width) + 2 * width + (width * 10 + 10)
    statistics = 2 * width * FLOAT + 8  # running mean and variance, and an int64 count
    alive = 3 * 64 + 2 * width * 16  # input, convolution, BatchNorm
    assert measured(model) == FLOAT * (weights + alive) + statistics


def test_working_in_place_saves_memory():
    def chain(inplace: bool) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 50), nn.ReLU(inplace=inplace))

    shape = Shape((4,), 50)
    assert measured(chain(False), shape) - measured(chain(True), shape) == 50 * FLOAT


def test_a_residual_keeps_its_input_alive():
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 20))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x + 1
            return y + self.inner(y)

    weights = 2 * (20 * 20 + 20)
    # At the end: the input, y, what inner made, their sum.
    assert measured(Residual(), Shape((20,), 20)) == FLOAT * (weights + 4 * 20)


def test_shared_weights_take_memory_once():
    model = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))
    apart = measured(model, Shape((6,), 6))
    model[1].weight = model[0].weight
    assert apart - measured(model, Shape((6,), 6)) == 36 * FLOAT


def test_it_is_deterministic_and_does_not_grow():
    model = Small().build(Candidate({"width": 8}), SHAPE)
    assert len({measured(model) for _ in range(5)}) == 1


# Living tensors -------------------------------------------------------------------------


def test_tensors_count_from_birth_to_death_and_views_never():
    with LiveTensors() as live:
        a = torch.zeros(10)
        b = a.view(2, 5)
        assert live.now == 40
        c = a + 1
        assert live.now == 80
        del a
        assert live.now == 80  # the view keeps its storage
        del b
        assert live.now == 40
        del c
    assert (live.now, live.peak) == (0, 80)


def test_ignored_tensors_and_their_views_count_nothing():
    given = torch.zeros(10)
    with LiveTensors(ignoring=[given]) as live:
        given.view(2, 5).add_(1)
        assert live.now == 0
        _kept = given + given
        assert live.now == 40


def test_a_storage_at_the_place_of_a_dead_one_counts():
    with LiveTensors() as live:
        x = torch.zeros(10)
        for _ in range(100):
            x = x + 1
            assert live.now == 40
    assert live.peak == 80


def test_an_operation_with_several_outputs():
    with LiveTensors() as live:
        values, indices = torch.zeros(10).sort()
        assert live.now == 10 * 4 + 10 * 8
        assert live.peak == 10 * (4 + 4 + 8)
        del values, indices


# Leaving things as they were ------------------------------------------------------------


class Raising(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("in forward")


@pytest.mark.parametrize("raising", [False, True])
@pytest.mark.parametrize("gradients", [False, True])
def test_each_modules_mode_and_the_gradient_mode_are_restored(raising, gradients):
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.BatchNorm1d(4))
    model.train()
    model[2].eval()  # as in fine-tuning with frozen statistics
    if raising:
        model.append(Raising())
    modes = [module.training for module in model.modules()]
    before = torch.get_rng_state(), torch.get_num_threads()
    with torch.set_grad_enabled(gradients):
        if raising:
            with pytest.raises(ValueError, match="in forward"):
                measured(model, Shape((4,), 4))
        else:
            measured(model, Shape((4,), 4))
        assert torch.is_grad_enabled() is gradients
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]
    assert model[2].num_batches_tracked == 0


def test_a_batch_of_none_is_refused():
    with pytest.raises(ValidationError):
        measured(nn.Identity(), batch_size=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_other_memory_does_not_count():
    device = torch.device("cuda")
    model = nn.Sequential(nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 10)).to(device)
    shape = Shape((1024,), 10)
    objective = PeakMemory(PeakMemory.Options(batch_size=512))
    alone = objective.measure(model, shape, device)
    ballast = torch.zeros(100_000_000, device=device)
    assert objective.measure(model, shape, device) == alone
    del ballast
    weights = 1024 * 4096 + 4096 + 4096 * 10 + 10
    least = FLOAT * (weights + 512 * (1024 + 2 * 4096))
    assert least <= alone < 1.5 * least
