"""A small network to train, alone or on workers, in double precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from orchestrate.core import Learner, local_gradient
from orchestrate.core.interleave import Interleaver
from orchestrate.core.parallel import GradientStream

DATA = torch.randn(200, 1, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
TARGETS = torch.randint(3, (200,), generator=torch.Generator().manual_seed(2))


class Classifier:
    """A convolutional network with GroupNorm, and a number that `loss_sum` depends on at each step."""

    def __init__(self, seed: int = 0, norm: Callable[[], nn.Module] = lambda: nn.GroupNorm(2, 4)) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model = nn.Sequential(
                nn.Conv2d(1, 4, 3), norm(), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
            ).double()
        self.data, self.targets = DATA, TARGETS
        self.step = 0

    def loss_sum(self, samples: Tensor) -> Tensor:
        logits = self.model(self.data[samples]) * (1 + self.step % 3)
        return nn.functional.cross_entropy(logits, self.targets[samples], reduction="sum")


def batches(seed: int, steps: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        yield torch.randperm(200, generator=generator)[:37]


Gradient = Callable[[Learner, Tensor], float]


def train(learner: Any, gradient: Gradient, seed: int, steps: int) -> list[float]:
    """Train with momentum; give the losses."""
    optimizer = torch.optim.SGD(learner.model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    losses: list[float] = []
    for learner.step, samples in enumerate(batches(seed, steps)):
        losses.append(gradient(learner, samples))
        optimizer.step()
    return losses


def weights(learner: Any) -> Tensor:
    return torch.cat([tensor.detach().flatten().double() for tensor in learner.model.state_dict().values()])


def alone(seed: int, steps: int, make: Callable[[int], Any] = Classifier) -> tuple[list[float], Tensor]:
    """Train in one process."""
    learner = make(seed)
    return train(learner, local_gradient, seed, steps), weights(learner)


def together(
    stream: GradientStream,
    seeds: Sequence[int],
    steps: Sequence[int],
    make: Callable[[int], Any] = Classifier,
) -> dict[int, Any]:
    """Train several on one stream, by turns; losses and weights, or an exception, by seed."""
    interleaver = Interleaver(stream)

    def run(seed: int, count: int) -> tuple[list[float], Tensor]:
        learner = make(seed)
        return train(
            learner, lambda one, samples: interleaver.gradient(seed, one, samples), seed, count
        ), weights(learner)

    return interleaver.run(
        {
            seed: (seed, lambda seed=seed, count=count: run(seed, count))
            for seed, count in zip(seeds, steps, strict=True)
        }
    )


def assert_same(
    found: tuple[list[float], Tensor], wanted: tuple[list[float], Tensor], tolerance: float
) -> None:
    assert max(abs(a - b) for a, b in zip(found[0], wanted[0], strict=True)) <= tolerance
    assert float((found[1] - wanted[1]).abs().max()) <= tolerance
