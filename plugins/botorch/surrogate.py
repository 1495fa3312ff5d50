"""Gaussian processes for a stage's goals: what they are fitted to, and when.

Everything is float64 and on one thread, so that a stage that is restored from its log proposes what it
would have proposed.
"""

# BoTorch's and GPyTorch's annotations are partial.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingModuleSource=false, reportMissingImports=false

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float64]
GROWTH = 1.1
"""Hyperparameters are fitted anew when a goal has so many times the values of the last fit."""
ALWAYS = 20
"""Up to so many values they are fitted at each ask."""


STEPS = 50
"""Iterations of L-BFGS a fit: after these the likelihood hardly rises, and the length scales still do."""


@dataclass(frozen=True)
class Series:
    """What is known of one goal: values at encoded candidates, larger is better, in the order told."""

    points: Floats
    values: Floats
    censor: bool
    """Whether very bad values may be cut off (`winsorised`)."""


@dataclass(frozen=True)
class Scaling:
    """How a goal's values were standardised: `(value - mean) / deviation`."""

    mean: float
    deviation: float

    def standard(self, value: float) -> float:
        """A value as the model sees it."""
        return (value - self.mean) / self.deviation


def winsorised(values: Floats) -> Floats:
    """Raise values far below the rest to the lower fence: first quartile less 1.5 interquartile ranges.

    Networks that didn't learn at all would otherwise set the scale on which those that did are told
    apart. Tukey, "Exploratory Data Analysis", 1977; in Bayesian optimisation as in Ax.
    """
    low, high = np.quantile(values, [0.25, 0.75])
    return np.maximum(values, low - 1.5 * (high - low))


def last_fit(count: int) -> int:
    """Of how many values the hyperparameters are that serve `count` of them."""
    fitted = min(count, ALWAYS)
    while (following := max(fitted + 1, int(np.ceil(fitted * GROWTH)))) <= count:
        fitted = following
    return fitted


class Surrogate:
    """One Gaussian process a goal; hyperparameters by their marginal likelihood, from scratch each time.

    They are those of the first `last_fit(n)` of a goal's n values, so they depend on the log alone.
    """

    def __init__(self) -> None:
        self._fitted: list[tuple[int, int, Any]] = []  # columns, values, hyperparameters, a goal each

    def model(self, series: list[Series]) -> tuple[Any, list[Scaling]]:
        """Make the joint model of all goals, on standardised values."""
        from botorch.models import ModelListGP

        self._fitted += [(0, 0, None)] * (len(series) - len(self._fitted))
        models: list[Any] = []
        scales: list[Scaling] = []
        for index, one in enumerate(series):
            count, width = last_fit(len(one.values)), one.points.shape[1]
            if self._fitted[index][:2] != (width, count):
                early = Series(one.points[:count], one.values[:count], one.censor)
                self._fitted[index] = (width, count, _fit(early))
            model, scaling = _process(one)
            model.load_state_dict(self._fitted[index][2])
            models.append(model.eval())
            scales.append(scaling)
        return ModelListGP(*models), scales


def _process(series: Series) -> tuple[Any, Scaling]:
    from botorch.models import SingleTaskGP

    values = winsorised(series.values) if series.censor else series.values
    scaling = Scaling(float(values.mean()), float(values.std()) or 1.0)
    standard = (values - scaling.mean) / scaling.deviation
    model = SingleTaskGP(tensor(series.points), tensor(standard)[:, None], outcome_transform=None)
    return model, scaling


def _fit(series: Series) -> Any:
    from botorch.optim.fit import fit_gpytorch_mll_scipy
    from gpytorch.mlls import ExactMarginalLogLikelihood

    model, _ = _process(series)
    mll = ExactMarginalLogLikelihood(model.likelihood, model)
    fit_gpytorch_mll_scipy(mll, options={"maxiter": STEPS})
    return model.state_dict()


def tensor(table: Floats) -> torch.Tensor:
    """As float64."""
    import torch

    return torch.as_tensor(np.ascontiguousarray(table), dtype=torch.float64)


@contextmanager
def repeatable(seed: int) -> Generator[None]:
    """One thread, torch's generator seeded and afterwards as before, no warnings of the libraries'."""
    import torch

    from ...core.training.threads import threads

    with threads(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        yield
