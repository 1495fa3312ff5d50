from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from orchestrate.core import (
    CodedStrategy,
    Collective,
    CollectiveStrategy,
    Learner,
    ParallelStrategy,
    RankSession,
    WorkerGroup,
)
from orchestrate.core.parallel import Forgetful
from orchestrate.core.testing import ContractError, LocalWorkers, Meeting, check_parallel_strategy

if TYPE_CHECKING:
    from torch import Tensor


class Shared(CollectiveStrategy):
    """Sums over shards: a sound collective strategy, to break."""

    name = "shared"
    summary = "sums over shards"

    def gradient(self, learner: Learner, samples: Tensor, group: Collective) -> float:
        import torch

        learner.model.zero_grad(set_to_none=True)
        loss = learner.loss_sum(samples[group.rank :: group.size])
        loss.backward()
        total = loss.detach().clone()
        group.all_reduce(total)
        for parameter in learner.model.parameters():
            gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            group.all_reduce(gradient)
            parameter.grad = gradient / self.divisor(samples, group)
        return float(total) / len(samples)

    def divisor(self, samples: Tensor, group: Collective) -> float:
        return len(samples)


class DividedByShard(Shared):
    """Divides by its shard's size, as if shards were equal."""

    def divisor(self, samples: Tensor, group: Collective) -> float:
        return len(samples[group.rank :: group.size]) * group.size


class Local(Shared):
    """Keeps the shard's gradient."""

    def gradient(self, learner: Learner, samples: Tensor, group: Collective) -> float:
        learner.model.zero_grad(set_to_none=True)
        shard = samples[group.rank :: group.size]
        loss = learner.loss_sum(shard) / len(shard)
        loss.backward()
        return float(loss.detach())


class Accumulating(Shared):
    """Never clears gradients."""

    def gradient(self, learner: Learner, samples: Tensor, group: Collective) -> float:
        (learner.loss_sum(samples) / len(samples)).backward()
        return float(learner.loss_sum(samples).detach()) / len(samples)


class WrongLoss(Shared):
    """Returns the sum of the losses."""

    def gradient(self, learner: Learner, samples: Tensor, group: Collective) -> float:
        return super().gradient(learner, samples, group) * len(samples)


class Chunks(CodedStrategy):
    """Hands each worker a chunk: a sound coded strategy that bears no dead worker."""

    name = "chunks"
    summary = "a chunk a worker"

    def gradient(self, learner: Learner, samples: Tensor, group: WorkerGroup) -> float:
        learner.model.zero_grad(set_to_none=True)

        def work(chunk: Tensor) -> Any:
            loss = learner.loss_sum(chunk)
            loss.backward()
            return float(loss.detach())

        replies = list(group.map(work, [samples[rank :: group.size] for rank in range(group.size)]))
        for parameter in learner.model.parameters():
            assert parameter.grad is not None
            parameter.grad /= len(samples)
        return sum(reply.value for reply in replies if reply.error is None) / len(samples)


class Vague(ParallelStrategy):
    """Is of neither kind."""

    name = "vague"
    summary = "neither"


@pytest.mark.parametrize(
    ("strategy", "rule"),
    [
        (DividedByShard(), "off the mean gradient"),
        (Local(), "off the mean gradient"),
        (Accumulating(), "off the mean gradient"),
        (WrongLoss(), "returns the loss"),
        (Vague(), "neither collective nor coded"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_rule_is_named(strategy: ParallelStrategy, rule: str) -> None:
    with pytest.raises(ContractError, match=rule):
        check_parallel_strategy(strategy)


class Remembering(Shared):
    """Adds what it made before, by halves, and may forget to say so."""

    keeps = True

    def open(self, group: Collective, seed: int) -> RankSession:
        return _Memory(self, group)


class _Memory(Forgetful):
    def __init__(self, strategy: Remembering, group: Collective) -> None:
        super().__init__(strategy, group)
        self._keeps = strategy.keeps
        self._kept: list[Tensor] = []

    def gradient(self, learner: Learner, samples: Tensor) -> float:
        loss = super().gradient(learner, samples)
        gradients = [one.grad for one in learner.model.parameters() if one.grad is not None]
        for gradient, kept in zip(gradients, self._kept, strict=False):
            gradient.add_(kept, alpha=1e-6)
        self._kept = [gradient.clone() for gradient in gradients]
        return loss

    def state(self) -> Mapping[str, Any]:
        return {"kept": self._kept} if self._keeps else {}

    def load(self, state: Mapping[str, Any]) -> None:
        self._kept = state["kept"]


class Amnesic(Remembering):
    """Forgets to say so."""

    keeps = False


def test_a_session_s_state_is_all_that_it_needs() -> None:
    check_parallel_strategy(Remembering(), tolerance=1e-3)
    with pytest.raises(ContractError, match="another gradient after its state was saved and loaded"):
        check_parallel_strategy(Amnesic(), tolerance=1e-3)


class Diverging(Shared):
    """Adds noise of its own to each rank."""

    def gradient(self, learner: Learner, samples: Tensor, group: Collective) -> float:
        loss = super().gradient(learner, samples, group)
        for parameter in learner.model.parameters():
            assert parameter.grad is not None
            parameter.grad *= 1 + 1e-6 * group.rank
        return loss


def test_ranks_must_agree_even_within_the_tolerance() -> None:
    with pytest.raises(ContractError, match="another gradient than rank 0"):
        check_parallel_strategy(Diverging(), tolerance=0.1)


def test_sound_strategies_pass() -> None:
    check_parallel_strategy(Shared(), workers=4)
    check_parallel_strategy(Chunks())


def test_a_dead_worker_is_noticed() -> None:
    with pytest.raises(ContractError, match="off the mean gradient"):
        check_parallel_strategy(Chunks(), dead=[1])


def test_a_meeting_raises_what_a_rank_raised() -> None:
    def work(group: Collective) -> None:
        if group.rank == 1:
            raise ValueError("rank 1 is ill")
        Meeting.exchange(group._meeting, group.rank, 0)  # type: ignore[attr-defined]

    with pytest.raises(ValueError, match="rank 1 is ill"):
        Meeting(3).run(work)


def test_local_workers_keep_the_protocol() -> None:
    group = LocalWorkers(4, dead=[2], order=[3, 2, 1, 0], seconds=0.5)
    replies = []
    for reply in group.map(lambda argument: argument * 10, [0, 1, 2, 3]):
        replies.append((reply.worker, reply.value, reply.error is not None))
        if reply.worker == 1:
            group.cancel([0])
    assert replies == [(3, 30, False), (2, None, True), (1, 10, False)]
    assert group.now() == 1.5
    group.replace(2)
    assert all(reply.error is None for reply in group.map(str, range(4)))


def in_parts(items: list[str]) -> Generator[str, None, str]:
    yield from items[:-1]
    return items[-1]


def test_a_generator_s_replies_are_spread_over_its_task() -> None:
    group = LocalWorkers(2, seconds=lambda worker, _: 4.0 if worker else 3.0)
    group.send(0, in_parts, ["a"], ticket=0)
    group.send(1, in_parts, ["b", "c", "d", "e"], ticket=1)
    told = []
    while (reply := group.receive()) is not None:
        told.append((group.now(), reply.value, reply.last))
    assert told == [
        (1.0, "b", False),
        (2.0, "c", False),
        (3.0, "a", True),
        (3.0, "d", False),
        (4.0, "e", True),
    ]
    group.send(1, in_parts, ["b", "c"])
    assert group.receive().value == "b"
    group.cancel([1])
    reply = group.receive()
    assert (reply.cause, reply.last) == ("cancelled", True)
    assert [one.value for one in group.map(in_parts, [["x", "y"], ["z"]])] == ["x", "y", "z"]
