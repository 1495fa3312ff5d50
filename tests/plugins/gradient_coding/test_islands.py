"""Workers of several processes: what they add up among themselves is what one computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from orchestrate.core import Cancelled, Collective
from orchestrate.core.groups import answers, cancellable, within
from orchestrate.core.testing import LocalWorkers, Meeting
from orchestrate.core.training.replica import Publisher
from orchestrate.plugins.gradient_coding.worker import Sent, Work, compute
from tests.plugins.gradient_coding.test_session import Failing, batch_normal
from tests.plugins.gradient_coding.training import Classifier


def work(learner: Any, chunks: list[int], **options: Any) -> Work:
    replica = Publisher(LocalWorkers(1)).publish(learner)
    ends = np.cumsum(chunks)
    parts = tuple(np.arange(end - size, end) for end, size in zip(ends, chunks, strict=True))
    coefficients = tuple(1.0 + index for index in range(len(chunks)))
    return Work(1, 0, replica, parts, coefficients, precise=True, **options)


def alone(one: Work) -> Sent:
    ((sent, last),) = answers(compute, [one])
    assert last
    return sent


def together(one: Work, processes: int, *gives_up: int) -> list[Any]:
    """What each process of an island says."""
    replicas = [one] * processes

    def run(collective: Collective) -> Any:
        mine = replicas[collective.rank]
        with within(collective), cancellable(lambda: collective.rank in gives_up):
            try:
                return next(answers(compute, [mine]))[0]
            except Cancelled:
                return "gave up"

    return Meeting(processes).run(run)


@pytest.fixture(autouse=True)
def one_replica_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes have learners of their own; threads would share the one that was opened last."""
    from orchestrate.core.training import replica

    class Forgetful(dict[Any, Any]):
        def get(self, key: Any, default: Any = None) -> Any:
            return None

    monkeypatch.setattr(replica, "_opened", Forgetful())


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize(("chunks", "piece"), [([10, 7], None), ([10, 7], 3), ([1], None), ([0], None)])
def test_an_island_s_sum_is_one_process_s(processes: int, chunks: list[int], piece: int | None) -> None:
    one = work(Classifier(1), chunks, piece=piece)
    expected = alone(one).vector
    found = together(one, processes)
    assert expected is not None
    for sent in found:
        assert np.abs(sent.vector.buckets[0] - expected.buckets[0]).max() < 1e-12
        assert sent.vector.tail == pytest.approx(expected.tail, abs=1e-12)
        assert (sent.vector.used == expected.used).all()


def test_statistics_of_a_chunk_are_made_by_one_process() -> None:
    one = work(batch_normal(0), [10, 8, 9], statistics=True)
    expected = alone(one).vector
    assert expected is not None
    for sent in together(one, 2):
        assert sent.vector.tail == pytest.approx(expected.tail, abs=1e-12)
        assert sent.vector.counts == expected.counts == (1,)


def test_if_one_gives_up_all_do() -> None:
    assert together(work(Classifier(1), [10, 7]), 3, 1) == ["gave up"] * 3


class Picky(Classifier):
    """Fails with one of the samples."""

    def loss_sum(self, samples: torch.Tensor) -> torch.Tensor:
        if 9 in samples:
            raise ValueError("not this one, \N{GREEK SMALL LETTER PI}")
        return super().loss_sum(samples)


def test_what_one_raises_is_the_island_s_answer() -> None:
    for sent in together(work(Picky(), [10]), 2):
        assert sent.vector is None
        assert "not this one, \N{GREEK SMALL LETTER PI}" in sent.error
    failing = Failing()
    failing.step = 3
    assert "no luck" in together(work(failing, [4]), 2)[0].error


def test_a_network_without_counters_or_parameters_in_use() -> None:
    class Partly(Classifier):
        def __init__(self) -> None:
            super().__init__(0)
            self.model.append(nn.Linear(3, 3).double())

        def loss_sum(self, samples: torch.Tensor) -> torch.Tensor:
            return self.model[:-1](self.data[samples]).square().sum()

    (first, _) = together(work(Partly(), [6]), 2)
    assert first.vector.used.tolist() == [True] * 6 + [False] * 2
