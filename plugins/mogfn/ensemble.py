"""Models of expensive objectives, learnt from finished trials: mean and standard deviation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...core.training.threads import threads
from .environment import Floats
from .reproducible import seeded

Values = NDArray[np.float64]


class Surrogate(Protocol):
    """Predicts m columns of values from features."""

    error: Values
    """Its own estimate of its error, or of the noise: (m,)."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What was trained: given as `kept` with the same data, nothing is trained again."""
        ...

    def predict(self, features: Floats) -> tuple[Values, Values]:
        """Mean and standard deviation of features (n, F): two arrays (n, m)."""
        ...

    def path(self, rng: np.random.Generator) -> Callable[[Floats], Values]:
        """Draw a function, from features (n, F) to values (n, m), that may be the true one."""
        ...


class Members(nn.Module):
    """M independent networks, computed together: two hidden layers and a linear path beside them."""

    def __init__(self, members: int, features: int, outputs: int, width: int) -> None:
        super().__init__()
        sizes = ((features, width), (width, width), (width, outputs))
        self.weights = nn.ParameterList(
            torch.randn(members, before, after) * math.sqrt(2 / before) for before, after in sizes
        )
        self.biases = nn.ParameterList(torch.zeros(members, 1, after) for _, after in sizes)
        self.linear = nn.Parameter(torch.zeros(members, features, outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (n, features) to (members, n, outputs)."""
        hidden = inputs.expand(len(self.linear), *inputs.shape)
        direct = hidden @ self.linear
        last = len(self.weights) - 1
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = hidden @ weight + bias
            if index < last:
                hidden = nn.functional.silu(hidden)
        return hidden + direct


def fit(net: nn.Module, loss: Callable[[], Tensor], steps: int, learning_rate: float, decay: float) -> None:
    """Train a network on all data at once, with a cosine schedule."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=learning_rate, weight_decay=decay, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()  # pyright: ignore[reportUnknownMemberType]
        optimizer.step()  # pyright: ignore[reportUnknownMemberType]
        schedule.step()


class Ensemble:
    """A deep ensemble (Lakshminarayanan et al., arXiv 1612.01474) of bootstrapped regressions.

    The members' spread is the uncertainty. What each member gets wrong on the rows that its bootstrap
    left out scales it, so that standardised errors have variance 1.
    """

    def __init__(
        self,
        features: Floats,
        values: Values,
        rng: np.random.Generator,
        *,
        kept: Mapping[str, Tensor] | None = None,
        members: int = 8,
        width: int = 32,
        steps: int = 300,
        learning_rate: float = 5e-3,
        decay: float = 1e-3,
    ) -> None:
        n = len(features)
        self._mean = values.mean(axis=0)
        self._scale = np.maximum(values.std(axis=0), 1e-12)
        inputs = torch.as_tensor(features)
        targets = torch.as_tensor((values - self._mean) / self._scale, dtype=torch.float32)
        counts = rng.multinomial(n, np.full(n, 1 / n), size=members)
        weights = torch.as_tensor(counts, dtype=torch.float32)[:, :, None]
        with seeded(int(rng.integers(2**31))), threads():
            self._net = Members(members, features.shape[1], values.shape[1], width)
            if kept is not None:
                self._net.load_state_dict(kept)
            else:

                def cost() -> Tensor:
                    return ((self._net(inputs) - targets).square() * weights).mean()

                fit(self._net, cost, steps, learning_rate, decay)
        self._calibrate(inputs, targets, torch.as_tensor(counts == 0))

    @property
    def tensors(self) -> dict[str, Tensor]:
        return self._net.state_dict()

    def predict(self, features: Floats) -> tuple[Values, Values]:
        with torch.no_grad(), threads():
            found = self._net(torch.as_tensor(features)).double().numpy()
        deviation = np.maximum(found.std(axis=0), 1e-3) * self._calibration
        return found.mean(axis=0) * self._scale + self._mean, deviation * self._scale

    def path(self, rng: np.random.Generator) -> Callable[[Floats], Values]:
        """Draw a function that may be the true one: for each column a member, its distance calibrated."""
        outputs = len(self._mean)
        chosen = rng.integers(len(self._net.linear), size=outputs)

        def follow(features: Floats) -> Values:
            with torch.no_grad(), threads():
                found = self._net(torch.as_tensor(features)).double().numpy()
            mean = found.mean(axis=0)
            away = found[chosen, :, np.arange(outputs)].T - mean
            return (mean + away * self._calibration) * self._scale + self._mean

        return follow

    def _calibrate(self, inputs: Tensor, targets: Tensor, out: Tensor) -> None:
        """Compare the error of the left-out members' mean with those members' spread."""
        with torch.no_grad():
            found = self._net(inputs).double()
        on = out[:, :, None].double()
        count = on.sum(dim=0)
        enough = (count >= 2).squeeze(-1)
        mean = (found * on).sum(dim=0) / count.clamp(min=1)
        spread = ((found - mean).square() * on).sum(dim=0) / count.clamp(min=1)
        errors = (mean - targets).square()
        self.error = np.sqrt(errors[enough].mean(dim=0).numpy()) * self._scale
        """Root mean square error on left-out rows: (m,)."""
        ratio = errors[enough].mean(dim=0) / spread[enough].mean(dim=0).clamp(min=1e-6)
        self._calibration = np.clip(np.sqrt(np.nan_to_num(ratio.numpy(), nan=1.0)), 0.5, 3.0)
