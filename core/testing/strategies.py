"""Contract of parallel strategies."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..parallel import CodedStrategy, CollectiveStrategy, ParallelStrategy, RankSession, local_gradient
from .contract import only, require
from .groups import LocalWorkers, Meeting, ThreadCollective
from .plugins import check_class

if TYPE_CHECKING:
    from torch import Tensor, nn


class ExampleLearner:
    """A small regression whose gradient is easily computed in one piece."""

    def __init__(self) -> None:
        import torch
        from torch import nn

        rng = torch.Generator().manual_seed(0)
        self._inputs = torch.randn(64, 6, generator=rng, dtype=torch.float64)
        self._targets = torch.randn(64, 3, generator=rng, dtype=torch.float64)
        self._model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
        with torch.no_grad():
            for parameter in self._model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=rng, dtype=torch.float64))

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self._model

    def loss_sum(self, samples: Tensor) -> Tensor:
        """Sum of squared errors over `samples`."""
        return (self._model(self._inputs[samples]) - self._targets[samples]).square().sum()


def check_parallel_strategy(
    strategy: ParallelStrategy,
    *,
    workers: int = 3,
    tolerance: float = 1e-9,
    dead: Collection[int] = (),
) -> None:
    """Check a strategy against the gradient computed in one piece, for several batches.

    Rules: it is collective or coded; it leaves the mean gradient over the batch in `.grad`, on every
    rank the same, and returns the mean loss; gradients left from the last step don't add up;
    batches that don't divide by the workers are no exception; a session that is given another one's
    state goes on as that one would.

    Args:
        strategy: the strategy, with its options; collective ranks get instances of their own.
        workers: size of the group.
        tolerance: relative error of the gradient that is allowed: that of a lossy compressor.
        dead: workers that never answer, for a coded strategy that bears them.

    Raises:
        ContractError: a rule is broken.
    """
    import torch

    check_class(type(strategy))
    batches = [torch.arange(16), torch.arange(5, 22), torch.arange(30, 61)]
    if isinstance(strategy, CollectiveStrategy):
        results = _collective(strategy, batches, workers)
    else:
        require(
            isinstance(strategy, CodedStrategy),
            f"parallel strategy {strategy.name!r} is neither collective nor coded",
            "Subclass CollectiveStrategy or CodedStrategy",
        )
        assert isinstance(strategy, CodedStrategy)
        results = [_coded(strategy, batches, workers, dead)]
    expected = [_whole(batch) for batch in batches]
    for result in results:
        for batch, (loss, gradient), (true_loss, true) in zip(batches, result, expected, strict=True):
            error = float(((gradient - true).square().sum() / true.square().sum()).sqrt())
            require(
                error <= tolerance,
                f"{strategy.name!r} with {workers} workers is off the mean gradient of a batch of "
                f"{len(batch)} by {error:.2g} (relative; {tolerance:g} is allowed)",
                "Add sums over samples and divide once by the batch's size; pass `tolerance` for a "
                "lossy strategy",
            )
            require(
                abs(loss - true_loss) <= 1e-6 * abs(true_loss),
                f"{strategy.name!r} returns the loss {loss:g}, and the batch's mean is {true_loss:g}",
                "Return the mean loss over the global batch",
            )
    for rank, result in enumerate(results[1:], start=1):
        require(
            all(torch.equal(mine[1], first[1]) for mine, first in zip(result, results[0], strict=True)),
            f"rank {rank} has another gradient than rank 0",
            "Leave the same gradient on every rank, bit by bit, or their networks drift apart",
        )


Results: TypeAlias = "list[tuple[float, Tensor]]"


def _whole(batch: Tensor) -> tuple[float, Tensor]:
    learner = ExampleLearner()
    loss = local_gradient(learner, batch)
    return loss, _gradient(learner)


def _moved(old: RankSession, new: RankSession) -> RankSession:
    """Give a session's state to another one, as a checkpoint would."""
    from ..training.checkpoint import load_state, save_state

    if state := old.state():
        with tempfile.TemporaryDirectory(prefix="orchestrate-") as folder:
            save_state(state, Path(folder, "state.pt"))
            new.load(load_state(Path(folder, "state.pt")))
    return new


def _collective(strategy: CollectiveStrategy, batches: list[Tensor], workers: int) -> list[Results]:
    import torch

    def work(group: ThreadCollective) -> Results:
        learner, other, results = ExampleLearner(), ExampleLearner(), list[Any]()
        session = type(strategy)(strategy.options).open(group, seed=7)
        moved = type(strategy)(strategy.options).open(group, seed=7)
        for batch in batches:
            results.append((session.gradient(learner, batch), _gradient(learner)))
            loss = moved.gradient(other, batch)
            require(
                (loss, True) == (results[-1][0], torch.equal(_gradient(other), results[-1][1])),
                f"{strategy.name!r} makes another gradient after its state was saved and loaded",
                "Give all that the next gradient depends on in the session's `state`",
            )
            moved = _moved(moved, type(strategy)(strategy.options).open(group, seed=7))
        return results

    with only(f"{strategy.name!r} must run on {workers} ranks", "Mend `gradient`"):
        return Meeting(workers).run(work)


def _coded(strategy: CodedStrategy, batches: list[Tensor], workers: int, dead: Collection[int]) -> Results:
    learner = ExampleLearner()
    group = LocalWorkers(workers, dead, order=list(reversed(range(workers))))
    with only(
        f"{strategy.name!r} must run on {workers} workers of which {len(dead)} are dead",
        "Mend `gradient`",
    ):
        return [(strategy.gradient(learner, batch, group), _gradient(learner)) for batch in batches]


def _gradient(learner: ExampleLearner) -> Tensor:
    import torch

    missing = [name for name, one in learner.model.named_parameters() if one.grad is None]
    require(not missing, f"no gradient in {', '.join(missing)}", "Fill every parameter's `.grad`")
    gradients = [one.grad.flatten() for one in learner.model.parameters() if one.grad is not None]
    return torch.cat(gradients).clone()
