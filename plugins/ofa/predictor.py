"""Accuracy predictors, and the card that says how far to trust them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...core import ArtifactError, Candidate, Shape, Value
from . import cost
from .base import OnceForAll
from .encoding import Encoder
from .options import PredictOptions

Vector = NDArray[np.float64]


class Predictor(ABC):
    """Maps candidates of one space to accuracies (0 to 1)."""

    name: ClassVar[str]

    def __init__(self, space: OnceForAll, shape: Shape) -> None:
        self.space = space
        self.shape = shape

    @abstractmethod
    def fit(self, candidates: Sequence[Mapping[str, Value]], accuracies: Vector) -> None:
        """Learn from measured accuracies (n,)."""

    @abstractmethod
    def predict(self, candidates: Sequence[Mapping[str, Value]]) -> list[float]:
        """Predict accuracies."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What was learned, as JSON data."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state` gave."""

    def write(self, path: Path) -> None:
        """Write the predictor as JSON."""
        data = {"predictor": self.name, "space": self.space.name, "genes": _genes(self.space), **self.state()}
        path.write_text(json.dumps(data), encoding="utf-8")

    @staticmethod
    def read(path: Path, space: OnceForAll, shape: Shape) -> Predictor:
        """Read what `write` wrote.

        Raises:
            ArtifactError: the file is damaged, or of another space.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if (data["space"], data["genes"]) != (space.name, _genes(space)):
                raise ArtifactError(
                    f"the predictor {path} was made for space {data['space']!r} with other options: it can't "
                    "tell anything of this job's networks"
                )
            predictor = PREDICTORS[data["predictor"]](space, shape)
            predictor.load_state(data)
        except (OSError, ValueError, KeyError) as error:
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError(f"{path} is no accuracy predictor: {error!r}") from error
        return predictor


class _Linear(Predictor):
    """Ridge regression on some features."""

    def __init__(self, space: OnceForAll, shape: Shape, penalty: float = 1.0) -> None:
        super().__init__(space, shape)
        self._penalty = penalty
        self._weights: Vector = np.zeros(0)
        self._centre: Vector = np.zeros(0)
        self._mean = 0.0

    @abstractmethod
    def features(self, candidates: Sequence[Mapping[str, Value]]) -> Vector:
        """Features (n, size)."""

    def fit(self, candidates: Sequence[Mapping[str, Value]], accuracies: Vector) -> None:
        table = self.features(candidates)
        self._centre, self._mean = table.mean(axis=0), float(accuracies.mean())
        table = table - self._centre
        square = table.T @ table + self._penalty * np.eye(table.shape[1])
        self._weights = np.asarray(np.linalg.solve(square, table.T @ (accuracies - self._mean)), np.float64)

    def predict(self, candidates: Sequence[Mapping[str, Value]]) -> list[float]:
        found: list[float] = (
            (self.features(candidates) - self._centre) @ self._weights + self._mean
        ).tolist()
        return found

    def state(self) -> dict[str, Any]:
        return {"weights": self._weights.tolist(), "centre": self._centre.tolist(), "mean": self._mean}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._weights, self._centre = np.array(state["weights"]), np.array(state["centre"])
        self._mean = float(state["mean"])


class Ridge(_Linear):
    """Ridge regression on the one-hot encoding."""

    name = "ridge"

    def features(self, candidates: Sequence[Mapping[str, Value]]) -> Vector:
        encoder = Encoder(self.space)
        return np.stack([encoder.encode(candidate) for candidate in candidates])


class MacsOnly(_Linear):
    """A line in the logarithm of the multiply-accumulates: what any other predictor must beat."""

    name = "macs"

    def __init__(self, space: OnceForAll, shape: Shape, penalty: float = 1e-9) -> None:
        super().__init__(space, shape, penalty=1e-9)  # one feature needs none

    def features(self, candidates: Sequence[Mapping[str, Value]]) -> Vector:
        plans = [self.space.plan(candidate, self.shape) for candidate in candidates]
        return np.log([[cost.macs(plan)] for plan in plans])


class Mlp(Predictor):
    """Multi-layer perceptron on the one-hot encoding, plus the mean accuracy (1908.09791, section 3.4).

    Accuracies are shares, and the mean is no parameter but added: with percentages or without the
    mean such networks hardly learn.
    """

    name = "mlp"

    def __init__(self, space: OnceForAll, shape: Shape, options: PredictOptions | None = None) -> None:
        super().__init__(space, shape)
        self._options = options
        self._encoder = Encoder(space)
        self._network = nn.Sequential()
        self._hidden: tuple[int, ...] = options.hidden if options else ()
        self._mean = 0.0

    def fit(self, candidates: Sequence[Mapping[str, Value]], accuracies: Vector) -> None:
        assert self._options is not None
        options = self._options
        self._mean = float(accuracies.mean())
        with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
            torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
            self._network = self._built()
            inputs, targets = self._inputs(candidates), torch.as_tensor(accuracies - self._mean).float()
            optimizer = torch.optim.Adam(
                self._network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
            )
            for _ in range(options.epochs):
                for batch in cast(Any, torch.randperm(len(targets))).split(options.batch_size):
                    optimizer.zero_grad()
                    loss = (self._network(inputs[batch]).squeeze(1) - targets[batch]).square().mean()
                    loss.backward()
                    optimizer.step()  # pyright: ignore[reportUnknownMemberType]

    @torch.no_grad()
    def predict(self, candidates: Sequence[Mapping[str, Value]]) -> list[float]:
        found: list[float] = (
            self._network(self._inputs(candidates)).squeeze(1).double() + self._mean
        ).tolist()
        return found

    def state(self) -> dict[str, Any]:
        weights = {name: tensor.tolist() for name, tensor in self._network.state_dict().items()}
        return {"hidden": list(self._hidden), "weights": weights, "mean": self._mean}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._hidden, self._mean = tuple(state["hidden"]), float(state["mean"])
        self._network = self._built()
        self._network.load_state_dict(
            {name: torch.tensor(values) for name, values in state["weights"].items()}
        )

    def _built(self) -> nn.Sequential:
        sizes = [self._encoder.size, *self._hidden]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(sizes[-1], 1, bias=False))

    def _inputs(self, candidates: Sequence[Mapping[str, Value]]) -> Tensor:
        return torch.as_tensor(np.stack([self._encoder.encode(one) for one in candidates])).float()


PREDICTORS: Mapping[str, type[Any]] = {kind.name: kind for kind in (Mlp, Ridge, MacsOnly)}


def _genes(space: OnceForAll) -> dict[str, list[Value]]:
    return {gene.name: list(gene.options) for gene in space.genes}


def make_predictor(name: str, space: OnceForAll, shape: Shape, options: PredictOptions) -> Predictor:
    """A predictor that has learned nothing yet."""
    if name == "mlp":
        return Mlp(space, shape, options)
    return Ridge(space, shape, options.ridge) if name == "ridge" else MacsOnly(space, shape)


def quality(predicted: Sequence[float], measured: Sequence[float]) -> dict[str, float]:
    """How well predictions order and hit measured accuracies.

    Returns:
        `spearman`, `kendall` (0 where one side is constant), `rmse`, `pairs` (share of pairs in the
        right order; ties count half).
    """
    from scipy import stats as scipy_stats  # scikit-learn brings it

    stats = cast(Any, scipy_stats)

    guess, truth = np.asarray(predicted), np.asarray(measured)
    constant = guess.std() == 0 or truth.std() == 0
    spearman = 0.0 if constant else float(stats.spearmanr(guess, truth).statistic)
    kendall = 0.0 if constant else float(stats.kendalltau(guess, truth).statistic)
    above, below = np.triu_indices(len(truth), 1)
    agreement = np.sign(guess[above] - guess[below]) * np.sign(truth[above] - truth[below])
    return {
        "spearman": spearman,
        "kendall": kendall,
        "rmse": float(np.sqrt(np.mean((guess - truth) ** 2))),
        "pairs": float(((agreement + 1) / 2).mean()) if len(agreement) else 0.0,
    }


def noise_ceiling(one: Sequence[float], other: Sequence[float]) -> float:
    """About the rank correlation with measured accuracies that perfect knowledge would reach.

    The square root of their reliability (Spearman's attenuation, 1904): how well two halves of the images
    agree, corrected to the whole (Spearman-Brown). Accuracies are noisy, the more so the fewer the images.

    Args:
        one: candidates' accuracies on half of the images.
        other: the same candidates' on the other half.
    """
    halves = quality(one, other)["spearman"]
    return (2 * halves / (1 + halves)) ** 0.5 if halves > 0 else 0.0


def unique_candidates(space: OnceForAll, count: int, rng: np.random.Generator) -> list[Candidate]:
    """Draw different candidates, or all of a smaller space."""
    from ...core import enumerate_candidates
    from ...core.draw import draw_candidate

    if (space.size() or 0) <= count:
        return list(enumerate_candidates(space))
    found: dict[Candidate, None] = {}
    while len(found) < count:
        found[draw_candidate(space, rng)] = None
    return list(found)
