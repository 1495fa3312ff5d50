"""Real gradients on a virtual clock: what is trained with stragglers is what one process trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from orchestrate.core import LostError, SpecError, TrialError, local_gradient
from orchestrate.core.testing import LocalWorkers, check_parallel_strategy
from orchestrate.plugins.gradient_coding.injection import Injected, InjectOptions
from orchestrate.plugins.gradient_coding.replay import replay
from orchestrate.plugins.gradient_coding.strategy import GradientCodingOptions, GradientCodingStrategy
from tests.plugins.gradient_coding.training import Classifier, alone, assert_same, together, train, weights

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


def test_late_replies_are_banked_and_dead_workers_replaced() -> None:
    group = LocalWorkers(4, seconds=adversary(4, 1, 5), deaf=range(4))
    stream = strategy(scheme="m-sgc", distinct=2).open(group, 2)
    advance = stream.advance

    def deadly() -> Any:
        if len(stream.journal.rounds) == 7:
            group.kill(2)
        return advance()

    stream.advance = deadly  # type: ignore[method-assign]
    found = together(stream, [0, 1], [30, 30])
    assert_same(found[0], alone(0, 30), 1e-10)
    assert_same(found[1], alone(1, 30), 1e-10)
    told = stream.metrics()
    assert told["workers/replaced"] == 1
    assert told["workers/banked"] > 0


def hang(worker: int, number: int) -> float:
    return 1e6 if (worker, number) == (1, 3) else 1.0


@pytest.mark.parametrize("options", [{"stragglers": 1}, {"scheme": "uncoded"}])
def test_a_worker_that_stays_silent_is_replaced(options: dict[str, Any]) -> None:
    group = LocalWorkers(4, seconds=hang, deaf=[1])
    chosen = strategy(replace_after=5.0, **options)
    learner = Classifier(1)
    losses = train(learner, lambda one, samples: chosen.gradient(one, samples, group), 1, 30)
    assert_same((losses, weights(learner)), alone(1, 30), 1e-10)
    rounds = chosen._sessions[group].journal.rounds
    assert [record.replaced for record in rounds if record.replaced] == [[1]]


def test_a_place_that_stays_empty_is_borne_where_the_code_can() -> None:
    def gone(worker: int, number: int) -> float:
        return 1e6 if worker == 1 else 1.0

    borne = strategy(stragglers=1, replace_after=2.0).open(LocalWorkers(4, seconds=gone, deaf=[1]), 1)
    found = together(borne, [0], [60])
    assert_same(found[0], alone(0, 60), 1e-10)
    assert borne.metrics()["workers/replaced"] > 5  # and nobody gives up
    needed = strategy(scheme="uncoded", replace_after=2.0)
    with pytest.raises(LostError, match="silent"):
        needed.gradient(Classifier(), torch.arange(20), LocalWorkers(4, seconds=gone, deaf=[1]))


def test_workers_that_keep_dying_are_no_stragglers() -> None:
    group = LocalWorkers(2)
    group.replace = lambda worker: None  # type: ignore[method-assign] # the next one dies too
    group.kill(0)
    group.kill(1)
    with pytest.raises(LostError, match="died 5 times in a row"):
        strategy(scheme="uncoded").gradient(Classifier(), torch.arange(20), group)


def batch_normal(seed: int) -> Classifier:
    return Classifier(seed, lambda: nn.BatchNorm2d(4))


def test_batch_norm_is_refused_unless_it_is_frozen_or_allowed() -> None:
    group = LocalWorkers(4)
    learner = batch_normal(0)
    with pytest.raises(TrialError, match=r"layer '1' is a BatchNorm2d.*batch_norm: per-chunk"):
        strategy().gradient(learner, torch.arange(40), group)
    strategy(batch_norm="per-chunk").gradient(learner, torch.arange(40), group)
    layer = learner.model[1]
    expected = batch_normal(0)
    seen = []
    for chunk in (torch.arange(20), torch.arange(20, 40)):  # two groups of two workers
        expected.model.load_state_dict(batch_normal(0).model.state_dict())
        expected.loss_sum(chunk)
        seen.append(expected.model[1].running_mean.clone())
    assert torch.allclose(layer.running_mean, (seen[0] + seen[1]) / 2, atol=1e-12)
    assert int(layer.num_batches_tracked) == 1
    layer.eval()
    strategy().gradient(learner, torch.arange(40), group)


class Noisy(Classifier):
    """Draws from the global generator."""

    def loss_sum(self, samples: torch.Tensor) -> torch.Tensor:
        return super().loss_sum(samples) * torch.rand(())


class Elsewhere(Classifier):
    """Computes with a network that isn't its own."""

    def loss_sum(self, samples: torch.Tensor) -> torch.Tensor:
        return Classifier(3).loss_sum(samples)


class Failing(Classifier):
    """Fails at its third step."""

    def loss_sum(self, samples: torch.Tensor) -> torch.Tensor:
        if self.step == 3:
            raise ValueError("no luck")
        return super().loss_sum(samples)


@pytest.mark.parametrize(
    ("learner", "why"),
    [(Noisy(), "another sum each time"), (Elsewhere(), "depends on no parameter of its `model`")],
    ids=["noisy", "elsewhere"],
)
def test_a_learner_that_breaks_a_rule_is_told_so(learner: Classifier, why: str) -> None:
    before = torch.get_rng_state()
    with pytest.raises(TrialError, match=why):
        strategy().gradient(learner, torch.arange(20), LocalWorkers(4))
    assert torch.equal(torch.get_rng_state(), before)


def test_what_a_learner_raises_is_its_own_models_failure() -> None:
    def make(seed: int) -> Classifier:
        return Failing(seed) if seed == 1 else Classifier(seed)

    stream = strategy(scheme="sr-sgc", distinct=2).open(LocalWorkers(4), 2)
    found = together(stream, [0, 1], [12, 12], make)
    assert_same(found[0], alone(0, 12), 1e-10)
    assert isinstance(found[1], TrialError)
    assert "no luck" in str(found[1])


@pytest.mark.usefixtures("virtual")
def test_auto_probes_and_takes_what_helps() -> None:
    group = LocalWorkers(6, seconds=adversary(6, 1, 7))
    chosen = strategy(scheme="auto", probe=8, reselect=20)
    learner = Classifier(2)
    losses = train(learner, lambda one, samples: chosen.gradient(one, samples, group), 2, 60)
    assert_same((losses, weights(learner)), alone(2, 60), 1e-10)
    uses = chosen._sessions[group].journal.uses
    assert [use.scheme["scheme"] for use in uses[:3]] == ["uncoded", "gc-frc", "gc-frc"]
    assert uses[-1].scheme["scheme"] == "gc-frc"
    assert "save" in uses[3].reason or "best" in uses[3].reason


@pytest.mark.parametrize(
    ("options", "workers", "models", "why"),
    [
        ({"scheme": "m-sgc"}, 4, 1, "makes a gradient in up to 2 rounds"),
        ({"scheme": "sr-sgc", "burst": 2, "window": 4}, 4, 3, "divides W - 1"),
        ({"stragglers": 4}, 4, 1, "tolerates 0 to 3 stragglers"),
        ({"scheme": "gc", "stragglers": 2, "code": "mds"}, 4, 1, "choose s so that n - s is odd"),
    ],
)
def test_a_scheme_that_can_t_be_is_refused_beforehand(
    options: dict[str, Any], workers: int, models: int, why: str
) -> None:
    with pytest.raises(SpecError, match=why):
        strategy(**options).check(workers, models)


def test_delays_are_injected_alike_for_every_scheme() -> None:
    delays = Injected(4, InjectOptions(p_slow=0.3, seconds=2.0, base=0.5, slope=4.0))
    again = Injected(4, InjectOptions(p_slow=0.3, seconds=2.0, base=0.5, slope=4.0))
    light = [delays(number, worker, 0.25) for number in range(1, 50) for worker in range(4)]
    heavy = [again(number, worker, 0.5) for number in range(1, 50) for worker in range(4)]
    assert set(light) == {1.5, 3.5}
    assert np.allclose(np.subtract(heavy, light), 1.0)


def late(worker: int, number: int) -> float:
    return 40.0 if worker in (0, 1) and number % 5 == 2 else 1.0 + 0.01 * worker


def test_a_gradient_may_be_inexact_where_the_job_allows_it_and_no_more_often() -> None:
    """Both workers of a group are late in every fifth round: the other group's gradient, scaled up."""
    allowed = {"patience": 3.0, "deviation": 1.0, "budget": 2}
    chosen = strategy(stragglers=1, approximate=allowed)
    group = LocalWorkers(4, seconds=late)
    session = chosen.open(group, 1)
    session._place = [0, 1, 2, 3]
    session.positions = {worker: worker for worker in range(4)}
    samples = torch.arange(40)
    inexact = []
    for step in range(20):
        learner, expected = Classifier(3), Classifier(3)
        learner.step = expected.step = step
        session.submit(0, learner, samples)
        ((_, loss),) = session.advance()
        exact = session.journal.rounds[-1].decoded[0].exact
        inexact.append(not exact)
        true = local_gradient(expected, samples if exact else torch.arange(20, 40))
        assert loss == pytest.approx(true)
        for mine, theirs in zip(learner.model.parameters(), expected.model.parameters(), strict=True):
            assert torch.allclose(mine.grad, theirs.grad, atol=1e-12)
    assert sum(inexact) == 2  # the budget; from then on the round is waited for
    assert session.metrics()["workers/inexact"] == 2
    assert [record.cause for record in session.journal.rounds].count("gave up") == 2


def test_no_gradient_is_inexact_unless_it_is_asked_for() -> None:
    session = strategy(stragglers=1).open(LocalWorkers(4, seconds=late), 1)
    found = together(session, [0], [20])
    assert_same(found[0], alone(0, 20), 1e-10)
    assert session.metrics()["workers/inexact"] == 0


def test_a_worker_that_is_slow_all_the_time_gets_a_fresh_process() -> None:
    group = Renewed(4, slow={2: 1})
    session = strategy(stragglers=1, quarantine={"score": 0.2, "tasks": 4}).open(group, 1)
    found = together(session, [0], [100])
    assert_same(found[0], alone(0, 100), 1e-10)
    chronic = [record.number for record in session.journal.rounds if record.chronic == [2]]
    assert len(chronic) == 1
    assert chronic[0] in range(30, 60)  # four tasks of twelve rounds
    assert group.renewed == [2]
    assert session.metrics()["workers/chronic"] == 1


def test_workers_that_stay_slow_are_kept_apart() -> None:
    group = Renewed(8, slow={1: 99, 5: 99})
    session = strategy(stragglers=1, quarantine={"score": 0.2, "tasks": 4}).open(group, 1)
    session._place = [1, 5, 0, 2, 3, 4, 6, 7]  # both in one group: it keeps everybody waiting
    session.positions = {worker: position for position, worker in enumerate(session._place)}
    found = together(session, [0], [60])
    assert_same(found[0], alone(0, 60), 1e-10)
    assert {1, 5} <= set(group.renewed)
    groups = session.scheme.code.group_of[[session.positions[worker] for worker in range(8)]]
    assert groups[1] != groups[5]
    rounds = session.journal.rounds
    assert rounds[0].seconds > 5 * rounds[-1].seconds
    assert len(session.journal.uses) > 1
    assert not [step.difference for step in replay(session.journal) if step.difference]


def test_who_straggles_by_chance_is_left_alone() -> None:
    group = LocalWorkers(4, seconds=adversary(4, 1, 9), deaf=range(4))
    session = strategy(stragglers=1).open(group, 1)
    together(session, [0], [60])
    assert session.metrics()["workers/chronic"] == 0


class Renewed(LocalWorkers):
    """Workers that are slow until so many fresh processes have taken their place; and deaf."""

    def __init__(self, size: int, slow: dict[int, int]) -> None:
        self.renewed: list[int] = []
        super().__init__(size, seconds=self._time, deaf=range(size))
        self._slow = slow

    def _time(self, worker: int, number: int) -> float:
        return 12.0 if self.renewed.count(worker) < self._slow.get(worker, 0) else 1.0

    def replace(self, worker: int) -> None:
        self.renewed.append(worker)
        super().replace(worker)
