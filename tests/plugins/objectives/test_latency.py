from __future__ import annotations

import time

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from orchestrate.core import Candidate
from orchestrate.plugins.objectives import Latency
from tests.plugins.objectives.networks import SHAPE, Small

CPU = torch.device("cpu")


class Recording(nn.Module):
    """Takes the time it is told to, and notes how it is called."""

    def __init__(self, *seconds: float) -> None:
        super().__init__()
        self.seconds = list(seconds)
        self.calls: list[tuple[int, bool, bool, int]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grad, threads = torch.is_grad_enabled(), torch.get_num_threads()
        self.calls.append((len(x), self.training, grad, threads))
        time.sleep(self.seconds[min(len(self.calls), len(self.seconds)) - 1])
        return x


def latency(**options) -> Latency:
    return Latency(Latency.Options.model_validate(options))


def test_the_median_after_the_warm_up_counts_in_milliseconds():
    model = Recording(0.2, 0.2, 0.01, 0.4, 0.01)  # two to warm up; one of three is disturbed
    value = latency(warmup=2, repeats=3).measure(model, SHAPE, CPU)
    assert 10 <= value < 100
    assert len(model.calls) == 5


def test_it_runs_batches_in_eval_mode_without_gradients_on_its_threads():
    model = Recording(0).train()
    before = torch.get_num_threads()
    latency(batch_size=3, warmup=1, repeats=2, threads=before + 1).measure(model, SHAPE, CPU)
    assert set(model.calls) == {(3, False, False, before + 1)}
    assert torch.get_num_threads() == before


def test_no_number_of_threads_leaves_torchs():
    model = Recording(0)
    latency(threads=None, warmup=0, repeats=1).measure(model, SHAPE, CPU)
    assert model.calls[0][3] == torch.get_num_threads()


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"repeats": 0}, {"warmup": -1}, {"threads": 0}, {"runs": 3}]
)
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValidationError):
        latency(**wrong)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_it_waits_for_the_kernels():
    device = torch.device("cuda")

    class Squares(nn.Module):
        def __init__(self, times: int) -> None:
            super().__init__()
            self.times = times
            self.weight = nn.Parameter(torch.randn(2048, 2048))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.weight
            for _ in range(self.times):
                y = y @ self.weight
            return y

    few, many = (latency(repeats=9).measure(Squares(n).to(device), SHAPE, device) for n in (4, 64))
    assert 8 < many / few < 32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_small_network_on_a_gpu():
    device = torch.device("cuda")
    model = Small().build(Candidate({"width": 4}), SHAPE).to(device)
    assert 0 < latency().measure(model, SHAPE, device) < 1000
