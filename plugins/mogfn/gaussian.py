"""An exact Gaussian process an objective, through GPyTorch (the extra `botorch`)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast

import gpytorch as _gpytorch
import numpy as np
import torch
from numpy.typing import NDArray

from ...core.training.threads import threads
from .environment import Floats
from .keeping import below, under
from .reproducible import seeded

gpytorch: Any = _gpytorch  # its types leave much unknown
Values = NDArray[np.float64]
FEATURES = 1024
"""Random features of a function that is drawn."""


class _Exact(gpytorch.models.ExactGP):
    """Constant mean; Matérn 5/2 with a length scale a feature."""

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor, likelihood: Any) -> None:
        super().__init__(inputs, targets, likelihood)  # pyright: ignore[reportUnknownMemberType]
        width = inputs.shape[1]
        prior = gpytorch.priors.LogNormalPrior(0.5 * np.log(width), 1.0)
        kernel = gpytorch.kernels.MaternKernel(nu=2.5, ard_num_dims=width, lengthscale_prior=prior)
        kernel.initialize(lengthscale=float(np.sqrt(width)))
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(kernel)

    def forward(self, inputs: torch.Tensor) -> Any:
        return gpytorch.distributions.MultivariateNormal(self.mean_module(inputs), self.covar_module(inputs))


class GaussianProcesses:
    """Independent exact Gaussian processes, hyperparameters by their marginal likelihood."""

    def __init__(
        self,
        features: Floats,
        values: Values,
        rng: np.random.Generator,
        *,
        kept: Mapping[str, torch.Tensor] | None = None,
        steps: int = 60,
    ) -> None:
        self._mean = values.mean(axis=0)
        self._scale = np.maximum(values.std(axis=0), 1e-12)
        self._used = np.ptp(features, axis=0) > 0
        inputs = torch.as_tensor(features[:, self._used], dtype=torch.float64)
        targets = torch.as_tensor((values - self._mean) / self._scale)
        self._models: list[Any] = []
        with seeded(int(rng.integers(2**31))), threads(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for index, column in enumerate(targets.T):
                found = kept and below(str(index), kept)
                self._models.append(_fit(inputs, column.contiguous(), steps, found))
        noise = np.array([float(model.likelihood.noise.detach()) for model in self._models])
        self.error = np.sqrt(noise) * self._scale
        """Estimated standard deviation of the noise: (m,)."""

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        return {
            name: tensor
            for index, model in enumerate(self._models)
            for name, tensor in under(str(index), model.state_dict()).items()
        }

    def predict(self, features: Floats) -> tuple[Values, Values]:
        inputs = torch.as_tensor(features[:, self._used], dtype=torch.float64)
        means: list[Values] = []
        deviations: list[Values] = []
        with torch.no_grad(), threads(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for model in self._models:
                found = model(inputs)
                means.append(found.mean.numpy())
                deviations.append(found.variance.clamp(min=1e-10).sqrt().numpy())
        scaled = np.column_stack(deviations) * self._scale
        return np.column_stack(means) * self._scale + self._mean, scaled

    def path(self, rng: np.random.Generator) -> Callable[[Floats], Values]:
        with torch.no_grad(), threads():
            paths = [_path(model, rng) for model in self._models]

        def follow(features: Floats) -> Values:
            inputs = torch.as_tensor(features[:, self._used], dtype=torch.float64)
            with torch.no_grad(), threads():
                found = [path(inputs).numpy() for path in paths]
            return np.column_stack(found) * self._scale + self._mean

        return follow


def _path(model: Any, rng: np.random.Generator) -> Callable[[torch.Tensor], torch.Tensor]:
    """Draw from the posterior: a function of random Fourier features, drawn from the prior, and what corrects
    it where there are data (Wilson et al., arXiv 2002.09309).
    """
    inputs: torch.Tensor = model.train_inputs[0]
    targets: torch.Tensor = model.train_targets
    noise: torch.Tensor = model.likelihood.noise.detach()
    constant: torch.Tensor = model.mean_module.constant.detach()
    amplitude: torch.Tensor = (2 * model.covar_module.outputscale.detach() / FEATURES).sqrt()
    lengths: torch.Tensor = model.covar_module.base_kernel.lengthscale.detach()
    spread = np.sqrt(5 / rng.chisquare(5, FEATURES))[:, None]  # Matérn 5/2: a t distribution of frequencies
    frequencies = torch.as_tensor(rng.standard_normal((FEATURES, inputs.shape[1])) * spread) / lengths
    phases = torch.as_tensor(rng.uniform(0, 2 * np.pi, FEATURES))
    weights = torch.as_tensor(rng.standard_normal(FEATURES))

    def prior(where: torch.Tensor) -> torch.Tensor:
        return constant + amplitude * torch.cos(where @ frequencies.T + phases) @ weights

    def kernel(where: torch.Tensor) -> torch.Tensor:
        return model.covar_module(where, inputs).to_dense()

    seen = targets - prior(inputs) - noise.sqrt() * torch.as_tensor(rng.standard_normal(len(targets)))
    covariance = kernel(inputs) + noise * torch.eye(len(targets))
    correction: torch.Tensor = cast(Any, torch.linalg).solve(covariance, seen)
    return lambda where: prior(where) + kernel(where) @ correction


def _fit(
    inputs: torch.Tensor, targets: torch.Tensor, steps: int, kept: Mapping[str, torch.Tensor] | None
) -> Any:
    likelihood = gpytorch.likelihoods.GaussianLikelihood(
        noise_constraint=gpytorch.constraints.GreaterThan(1e-5)
    ).double()
    likelihood.initialize(noise=1e-2)
    model = _Exact(inputs, targets, likelihood).double()
    if kept is not None:
        model.load_state_dict(kept)
        return model.eval()
    margin = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = -margin(model(inputs), targets)
        loss.backward()
        optimizer.step()  # pyright: ignore[reportUnknownMemberType]
    return model.eval()
