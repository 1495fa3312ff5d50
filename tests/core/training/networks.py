"""What the tests of training share: a small task, a small space of networks, one thread."""

from __future__ import annotations

from functools import cached_property

import pytest
import torch
from torch import nn

from orchestrate.core import SearchSpace, Split, Task
from orchestrate.core.task import Shape


@pytest.fixture
def one_thread():
    """What a trial of one CPU gets; on a busy machine, more threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Blobs(Task):
    """Four classes of 6x6 pictures, one bright corner each, under noise."""

    name = "blobs"
    summary = "noisy corners"

    def shape(self):
        return Shape((1, 6, 6), 4)

    @cached_property
    def splits(self):
        generator = torch.Generator().manual_seed(0)
        made = {}
        for name, count in (("train", 150), ("validation", 80), ("test", 80)):
            targets = torch.arange(count) % 4
            inputs = torch.randn(count, 1, 6, 6, generator=generator)
            for corner in range(4):
                row, column = 3 * (corner // 2), 3 * (corner % 2)
                inputs[targets == corner, :, row : row + 3, column : column + 3] += 1.5
            made[name] = Split(inputs, targets)
        return made

    def split(self, name):
        return self.splits[name]

    def digest(self):
        return "blobs"


class Convolutions(SearchSpace):
    """Networks with everything that has a state or draws random numbers."""

    name = "convolutions"
    summary = "two small networks"

    def choices(self, choose):
        choose.categorical("norm", ["batch", "group"])

    def build(self, candidate, shape):
        batch = candidate["norm"] == "batch"
        return nn.Sequential(
            nn.Conv2d(shape.input[0], 8, 3, padding=1),
            nn.BatchNorm2d(8) if batch else nn.GroupNorm(2, 8),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, shape.classes),
        )
