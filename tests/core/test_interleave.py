"""Programs by turns: each as if it were alone, whatever becomes of the others."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrate.core import TrialPruned
from orchestrate.core.interleave import Interleaver
from orchestrate.core.testing import ExampleLearner

SAMPLES = torch.arange(4)


class Stream:
    """Answers each model with its number, two rounds after it asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.round = 0
        self.retired: list[int] = []
        self.fails: dict[int, Exception] = {}

    def submit(self, model: int, learner: Any, samples: torch.Tensor) -> None:
        self.asked.append((self.round, model))

    def advance(self) -> Sequence[tuple[int, float | Exception]]:
        self.round += 1
        due = [model for at, model in self.asked if at + 2 <= self.round]
        self.asked = [one for one in self.asked if one[1] not in due]
        if -1 in self.fails:
            raise self.fails[-1]
        return [(model, self.fails.get(model, float(model))) for model in due]

    def retire(self, model: int) -> None:
        self.retired.append(model)

    def metrics(self) -> Mapping[str, float]:
        return {}

    def artifacts(self, folder: Path) -> Mapping[str, Path]:
        return {}


def draws(count: int, turn: Callable[[], Any]) -> list[float]:
    found = []
    for _ in range(count):
        turn()
        found += [random.random(), torch.rand(()).item()]
    return found


def test_each_finds_the_random_numbers_that_it_would_have_alone() -> None:
    interleaver = Interleaver(Stream())
    learner = ExampleLearner()

    def run(number: int) -> list[float]:
        return draws(3 + number, lambda: interleaver.gradient(number, learner, SAMPLES))

    torch.manual_seed(99)
    before = torch.get_rng_state()
    together = interleaver.run({n: (10 + n, lambda n=n: run(n)) for n in range(3)})
    assert torch.equal(torch.get_rng_state(), before)
    for number in range(3):
        random.seed(10 + number)
        torch.manual_seed(10 + number)
        assert together[number] == draws(3 + number, lambda: None)


def test_one_that_fails_or_is_stopped_leaves_the_others_alone() -> None:
    stream = Stream()
    stream.fails = {1: ValueError("its gradient")}
    interleaver = Interleaver(stream)

    def run(number: int) -> float:
        total = 0.0
        for step in range(4):
            total += interleaver.gradient(number, ExampleLearner(), SAMPLES)
            if (number, step) == (2, 1):
                raise TrialPruned("enough")
        return total

    found = interleaver.run({n: (n, lambda n=n: run(n)) for n in range(4)})
    assert (found[0], found[3]) == (0.0, 12.0)
    assert isinstance(found[1], ValueError)
    assert isinstance(found[2], TrialPruned)
    assert sorted(stream.retired) == [0, 1, 2, 3]


def test_when_the_stream_breaks_every_program_unwinds() -> None:
    stream = Stream()
    interleaver = Interleaver(stream)
    unwound = []

    def run(number: int) -> None:
        try:
            interleaver.gradient(number, ExampleLearner(), SAMPLES)
            stream.fails = {-1: RuntimeError("no workers left")}
            interleaver.gradient(number, ExampleLearner(), SAMPLES)
        finally:
            unwound.append(number)

    with pytest.raises(RuntimeError, match="no workers left"):
        interleaver.run({n: (n, lambda n=n: run(n)) for n in range(3)})
    assert sorted(unwound) == [0, 1, 2]
