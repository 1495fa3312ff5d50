"""Real gradients on a virtual clock: what is trained with stragglers is what one process trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from orchestrate.core.testing import LocalWorkers, check_parallel_strategy
from orchestrate.plugins.gradient_coding.strategy import GradientCodingOptions, GradientCodingStrategy
from tests.plugins.gradient_coding.training import Classifier, alone, assert_same, together, train

SLOW = 25.0


def strategy(**options: Any) -> GradientCodingStrategy:
    return GradientCodingStrategy(GradientCodingOptions(**options))


def adversary(n: int, stragglers: int, seed: int) -> Callable[[int, int], float]:
    """In each round others are slow, as many as are allowed or one more at times."""
    generator = np.random.default_rng(seed)
    slow: dict[int, set[int]] = {}

    def seconds(worker: int, number: int) -> float:
        if number not in slow:
            count = stragglers + (generator.random() < 0.2)
            slow[number] = set(generator.choice(n, count, replace=False).tolist())
        return SLOW if worker in slow[number] else 1.0 + 0.1 * generator.random()

    return seconds


ONE = [
    ({"stragglers": 1}, 4, 1e-10),
    ({"stragglers": 2, "mu": 1.0}, 7, 1e-10),
    ({"scheme": "gc", "stragglers": 2}, 5, 1e-7),
    ({"scheme": "gc", "stragglers": 1, "code": "mds"}, 4, 1e-7),
    ({"scheme": "uncoded"}, 3, 1e-10),
]


@pytest.mark.parametrize(("options", "n", "tolerance"), ONE)
def test_one_network_trains_as_in_one_process(options: dict[str, Any], n: int, tolerance: float) -> None:
    group = LocalWorkers(n, seconds=adversary(n, options.get("stragglers", 0), 3))
    chosen = strategy(**options)
    learner = Classifier(4)
    losses = train(learner, lambda one, samples: chosen.gradient(one, samples, group), 4, 50)
    from tests.plugins.gradient_coding.training import weights

    assert_same((losses, weights(learner)), alone(4, 50), tolerance)
    rounds = chosen._sessions[group].journal.rounds
    assert len(rounds) == 50
    if options.get("stragglers"):
        assert sum(bool(record.stragglers) for record in rounds) > 20


MANY = [
    ({"stragglers": 1}, 4, 3),
    ({"scheme": "sr-sgc", "burst": 1, "window": 2, "distinct": 2}, 4, 2),
    ({"scheme": "sr-sgc", "burst": 2, "window": 3, "distinct": 3}, 6, 3),
    ({"scheme": "m-sgc", "burst": 1, "window": 2, "distinct": 2}, 4, 2),
    ({"scheme": "m-sgc", "burst": 2, "window": 3, "distinct": 2}, 6, 4),
    ({"scheme": "m-sgc", "burst": 1, "window": 3, "distinct": 4}, 4, 3),
]


@pytest.mark.parametrize(
    ("options", "n", "models", "deaf"), [*((*one, False) for one in MANY), (*MANY[1], True), (*MANY[5], True)]
)
def test_interleaved_networks_train_as_if_alone(
    options: dict[str, Any], n: int, models: int, deaf: bool
) -> None:
    chosen = strategy(**options)
    assert chosen.models <= models
    group = LocalWorkers(n, seconds=adversary(n, 1, 5), deaf=range(n) if deaf else ())
    stream = chosen.open(group, models)
    steps = [50, 30, 50, 41][:models]
    found = together(stream, range(models), steps)
    for seed, count in enumerate(steps):
        assert_same(found[seed], alone(seed, count), 1e-10)
    assert stream.metrics()["workers/straggler_share"] > 0.05


def test_the_contract_of_strategies() -> None:
    check_parallel_strategy(strategy(stragglers=1), workers=4, dead=[1])
    check_parallel_strategy(strategy(scheme="gc", stragglers=2), workers=5, tolerance=1e-7)
