"""Evidential regression: one network that says what it predicts, how noisy that is, and how sure it is.

Amini et al., "Deep Evidential Regression", NeurIPS 2020, arXiv 1910.02600; as a surrogate of GFlowNets in
HN-GFN (arXiv 2302.04040). The network gives a normal-inverse-gamma distribution of a value's mean and
variance: gamma is the mean, nu the evidence for it, alpha and beta are those of the variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from ...core.training.threads import threads
from .ensemble import Members, fit
from .environment import Floats
from .reproducible import seeded

Values = NDArray[np.float64]
HELD = 5
"""Of so many rows one is left out."""


class Evidence(NamedTuple):
    """A normal-inverse-gamma distribution a value: (n, m) each; nu and beta above 0, alpha above 1."""

    gamma: Tensor
    nu: Tensor
    alpha: Tensor
    beta: Tensor

    @property
    def aleatoric(self) -> Tensor:
        """Variance of the noise, E[σ²]."""
        return self.beta / (self.alpha - 1)

    @property
    def epistemic(self) -> Tensor:
        """Variance of the mean, Var[μ]."""
        return self.aleatoric / self.nu


def loss(found: Evidence, targets: Tensor, penalty: float) -> Tensor:
    """Negative log evidence (Student's t of 2 alpha degrees), and a penalty on evidence for errors: (n, m).

    Equations 8 to 10.
    """
    gamma, nu, alpha, beta = found
    omega = 2 * beta * (1 + nu)
    away = targets - gamma
    surprise = (
        0.5 * torch.log(math.pi / nu)
        - alpha * torch.log(omega)
        + (alpha + 0.5) * torch.log(away.square() * nu + omega)
        + torch.lgamma(alpha)
        - torch.lgamma(alpha + 0.5)
    )
    return surprise + penalty * away.abs() * (2 * nu + alpha)


class Evidential:
    """Evidential regression of m columns; the deviation is that of the mean (epistemic).

    A network that is as sure as the loss makes it is too sure. A second one, which isn't shown every fifth
    row, says by how much: its errors there, in its own deviations, scale them.
    """

    def __init__(
        self,
        features: Floats,
        values: Values,
        rng: np.random.Generator,
        *,
        kept: Mapping[str, Tensor] | None = None,
        width: int = 64,
        steps: int = 300,
        learning_rate: float = 5e-3,
        decay: float = 1e-3,
        penalty: float = 1.0,
    ) -> None:
        self._mean = values.mean(axis=0)
        self._scale = np.maximum(values.std(axis=0), 1e-12)
        inputs = torch.as_tensor(features)
        targets = torch.as_tensor((values - self._mean) / self._scale, dtype=torch.float32)
        out = torch.as_tensor(rng.permutation(len(features)) % HELD == 0)
        weights = torch.stack([torch.ones(len(features)), (~out).float()])[:, :, None]
        with seeded(int(rng.integers(2**31))), threads():
            self._net = Members(2, features.shape[1], 4 * values.shape[1], width)
            if kept is not None:
                self._net.load_state_dict(kept)
            else:

                def cost() -> Tensor:
                    return (loss(self._evidence(inputs), targets, penalty) * weights).mean()

                fit(self._net, cost, steps, learning_rate, decay)
            with torch.no_grad():
                found = Evidence(*(part[1, out].double() for part in self._evidence(inputs)))
        errors = (found.gamma - targets[out]).square()
        self.error = errors.mean(dim=0).sqrt().numpy() * self._scale
        """Root mean square error on left-out rows: (m,)."""
        self._calibration = (errors / found.epistemic).mean(dim=0).sqrt().clamp(0.5, 10).numpy()

    @property
    def tensors(self) -> dict[str, Tensor]:
        return self._net.state_dict()

    def predict(self, features: Floats) -> tuple[Values, Values]:
        with torch.no_grad(), threads():
            found = Evidence(*(part[0].double() for part in self._evidence(torch.as_tensor(features))))
        deviation = found.epistemic.sqrt().numpy() * self._calibration
        return found.gamma.numpy() * self._scale + self._mean, deviation * self._scale

    def path(self, rng: np.random.Generator) -> Callable[[Floats], Values]:
        """Draw a function that may be the true one: as many deviations from the mean everywhere."""
        drawn = rng.standard_normal(len(self._mean))

        def follow(features: Floats) -> Values:
            mean, deviation = self.predict(features)
            return mean + drawn * deviation

        return follow

    def _evidence(self, inputs: Tensor) -> Evidence:
        gamma, nu, alpha, beta = self._net(inputs).chunk(4, dim=-1)
        return Evidence(gamma, softplus(nu) + 1e-6, softplus(alpha) + 1 + 1e-6, softplus(beta) + 1e-6)
