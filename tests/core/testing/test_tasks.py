from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from orchestrate.core import Shape, Split, SplitName, Task
from orchestrate.core.testing import ContractError, check_task
from tests.core.testing.examples import Blobs


class Flat(Blobs):
    """Has no channels."""

    def shape(self) -> Shape:
        return Shape((8, 8), 3)


class Double(Blobs):
    """Has float64 inputs."""

    def split(self, name: SplitName) -> Split:
        inputs, targets = super().split(name)
        return Split(inputs.double(), targets)


class OneHot(Blobs):
    """Has a row of targets an input."""

    def split(self, name: SplitName) -> Split:
        import torch

        inputs, targets = super().split(name)
        return Split(inputs, torch.eye(3, dtype=torch.int64)[targets])


class CountsFromOne(Blobs):
    """Numbers its classes from 1."""

    def split(self, name: SplitName) -> Split:
        inputs, targets = super().split(name)
        return Split(inputs, targets + 1)


class Dirty(Blobs):
    """Has NaN among its inputs."""

    def split(self, name: SplitName) -> Split:
        inputs, targets = super().split(name)
        inputs[0, 0, 0, 0] = float("nan")
        return Split(inputs, targets)


class Shuffled(Blobs):
    """Is shuffled by torch's global generator."""

    def split(self, name: SplitName) -> Split:
        import torch

        inputs, targets = super().split(name)
        order = torch.randperm(len(inputs))
        return Split(inputs[order], targets[order])


class Leaking(Blobs):
    """Tests on what it trains on."""

    def split(self, name: SplitName) -> Split:
        return super().split("train" if name == "test" else name)


class Unstable(Blobs):
    """Has a new digest each time."""

    digests = count()

    def digest(self) -> str:
        return f"{next(self.digests):032x}"


class Unnamed(Blobs):
    """Has a class without a name."""

    def class_names(self) -> tuple[str, ...]:
        return ("a", "b")


class Failing(Blobs):
    """Can't be loaded."""

    def split(self, name: SplitName) -> Any:
        raise OSError("no such file")


@pytest.mark.parametrize(
    ("task", "rule"),
    [
        (Flat(), r"shape\(\) is"),
        (Double(), "are torch.float64"),
        (OneHot(), r"targets of 'train' are torch.int64 \(48, 3\)"),
        (CountsFromOne(), "go from 1 to 3"),
        (Dirty(), "aren't finite|differs between"),
        (Shuffled(), "differs between two instances"),
        (Leaking(), "100.0% of 'test' is also in 'train'"),
        (Unstable(), "must be one hexadecimal text"),
        (Unnamed(), "2 names for 3 classes"),
        (Failing(), "must load its splits.*no such file"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_rule_is_named(task: Task, rule: str) -> None:
    with pytest.raises(ContractError, match=rule):
        check_task(task)


def test_a_sound_task_passes() -> None:
    check_task(Blobs(), overlap=0.0)
