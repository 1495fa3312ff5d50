"""Small supernets of the three spaces, with nothing left at a telling initial value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from orchestrate.core import Candidate, Shape
from orchestrate.core.draw import draw_candidate
from orchestrate.core.seeds import generator
from orchestrate.plugins.ofa.base import OnceForAll
from orchestrate.plugins.ofa.mobile import OfaMobileNetV3, OfaProxyless
from orchestrate.plugins.ofa.resnet import OfaResNet50D
from orchestrate.plugins.ofa.supernet import Supernet

SPACES: Sequence[type[Any]] = (OfaMobileNetV3, OfaProxyless, OfaResNet50D)
SHAPE = Shape((1, 8, 8), 10)
GROUPED = OfaResNet50D(OfaResNet50D.Options(preset="tiny", group_width=4))
TINY: Sequence[OnceForAll] = (*(space(space.Options(preset="tiny")) for space in SPACES), GROUPED)
TINY_NAMES = [*(space.name for space in SPACES), "grouped"]


@pytest.fixture(autouse=True)
def one_thread():
    """What a trial of one CPU gets; on a busy machine, more threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=TINY, ids=TINY_NAMES)
def space(request: Any) -> OnceForAll:
    return request.param


@pytest.fixture
def supernet(space: OnceForAll) -> Supernet:
    return make_supernet(space)


def make_supernet(space: OnceForAll, shape: Shape = SHAPE) -> Supernet:
    """A supernet whose statistics, scales, shifts and matrices are all random."""
    torch.manual_seed(0)
    net = Supernet(space, shape)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if "running_var" in name:
                tensor.uniform_(0.5, 1.5)
            elif tensor.ndim == 1:
                tensor.add_(torch.randn_like(tensor) * 0.3)
            elif "matrices" in name:
                tensor.add_(torch.randn_like(tensor) * 0.1)
    return net.eval()


def candidates(space: OnceForAll, count: int, seed: int = 0) -> list[Candidate]:
    rng = generator(seed)
    return [space.largest, space.smallest, *(draw_candidate(space, rng) for _ in range(count))]


def images(count: int = 3, side: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(seed))
