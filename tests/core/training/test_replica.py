"""Learners that travel: what arrives, what is sent again, and what can't be sent."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from orchestrate.core import TrialError
from orchestrate.core.testing import LocalWorkers
from orchestrate.core.training.replica import Packed, Publisher


class Counting(LocalWorkers):
    """Counts what is shared."""

    def __init__(self) -> None:
        super().__init__(2)
        self.shared: list[Any] = []

    def share(self, value: Any) -> Any:
        self.shared.append(value)
        return super().share(value)


class Tied:
    """A network with a tied parameter, a buffer, a teacher, data, and a step."""

    def __init__(self) -> None:
        first = nn.Linear(3, 3)
        second = nn.Linear(3, 3)
        second.weight = first.weight
        self.model = nn.Sequential(first, nn.BatchNorm1d(3), second)
        self.model[0].bias.requires_grad_(False)
        self.teacher = nn.Linear(3, 3).requires_grad_(False)
        self.data = torch.randn(20, 3)
        self.step = 0
        self.loss = lambda value: (value**2).sum()  # no module has it

    def loss_sum(self, samples: Tensor) -> Tensor:
        inputs = self.data[samples]
        return self.loss(self.model(inputs) - self.teacher(inputs)) * (1 + self.step)


def test_a_learner_arrives_as_it_is() -> None:
    learner, group = Tied(), Counting()
    publisher = Publisher(group)
    samples = torch.arange(5)
    for learner.step in range(3):
        copy: Any = publisher.publish(learner).open()
        assert copy is not learner
        assert copy.model[0].weight is copy.model[2].weight
        assert [one.requires_grad for one in copy.model.parameters()] == [
            one.requires_grad for one in learner.model.parameters()
        ]
        assert torch.equal(copy.loss_sum(samples), learner.loss_sum(samples))
        with torch.no_grad():
            learner.model[0].weight.data.add_(1)  # no version tells of this one


def test_data_travels_once_and_again_when_it_changes() -> None:
    learner, group = Tied(), Counting()
    publisher = Publisher(group)
    publisher.publish(learner).open()
    first = len(group.shared)
    assert first == 4  # the body, the data, the teacher's two
    publisher.publish(learner).open()
    assert len(group.shared) == first + 1
    learner.data[0] = 7.0
    copy: Any = publisher.publish(learner).open()
    assert len(group.shared) == first + 3
    assert float(copy.data[0, 0]) == 7.0


def test_a_copy_is_of_the_time_of_its_publication() -> None:
    learner, group = Tied(), Counting()
    replica = Publisher(group).publish(learner)
    before = learner.model[2].bias.detach().clone()
    with torch.no_grad():
        learner.model[2].bias.add_(1)
    copy: Any = replica.open()
    assert torch.equal(copy.model[2].bias, before)
    assert replica.open() is copy


def test_learners_of_one_local_class_stay_apart() -> None:
    def make(value: float) -> Any:
        model = nn.Linear(1, 1, bias=False)
        nn.init.constant_(model.weight, value)

        class Local:
            def __init__(self) -> None:
                self.model = model

            def loss_sum(self, samples: Tensor) -> Tensor:
                return model(samples.float()[:, None]).sum()  # its cell, not its attribute

        return Local()

    first, second = make(2.0), make(3.0)
    publisher = Publisher(Counting())
    opened = [publisher.publish(learner).open() for learner in (first, second, first)]
    for learner, value in zip([*opened, first, second], [2.0, 3.0, 2.0, 2.0, 3.0], strict=True):
        assert learner.loss_sum(torch.ones(1)).item() == value
        learner.loss_sum(torch.ones(1)).backward()
        assert learner.model.weight.grad is not None


def test_a_script_s_learner_may_use_any_name() -> None:
    class Local(Tied):
        def loss_sum(self, samples: Tensor) -> Tensor:
            self.classes = torch.ones(3)  # torch.classes is a module, of sorts
            return self.model(self.data[samples]).sum()

    copy = Publisher(Counting()).publish(Local()).open()
    assert copy.loss_sum(torch.arange(4)).requires_grad


def test_what_lives_in_one_process_is_named() -> None:
    learner = Tied()
    learner.lock = threading.Lock()  # type: ignore[attr-defined]
    with pytest.raises(TrialError, match=r"Tied can't be sent to the workers.*lock.*__getstate__"):
        Publisher(Counting()).publish(learner)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.bool, torch.int64])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_tensors_of_any_type_and_shape_are_packed(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.randn(shape).mul(9).to(dtype)
    back = Packed.of(tensor).tensor(writable=False)
    assert back.dtype == dtype
    assert torch.equal(back, tensor)
