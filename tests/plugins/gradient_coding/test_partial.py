"""Partial stragglers: what a slow worker has finished by the end of a round counts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrate.core.testing import LocalWorkers
from orchestrate.plugins.gradient_coding.replay import replay
from orchestrate.plugins.gradient_coding.schemes import PartialCoding
from orchestrate.plugins.gradient_coding.simulation import simulate
from orchestrate.plugins.gradient_coding.stragglers.profile import Profile
from orchestrate.plugins.gradient_coding.strategy import GradientCodingOptions, GradientCodingStrategy
from orchestrate.plugins.gradient_coding.waiting import Rounds, Wait
from tests.plugins.gradient_coding.harness import Run
from tests.plugins.gradient_coding.training import alone, assert_same, together

SMALL = [(n, s, p) for n in range(1, 6) for s in range(n) for p in (s + 2, s + 4)]


@pytest.mark.parametrize(("n", "s", "p"), SMALL)
def test_every_progress_of_every_worker(n: int, s: int, p: int) -> None:
    """A worker has sent nothing, its own part, or both: what decodes is the whole sum."""
    for sent in itertools.product((0, 1, 2), repeat=n):
        run = Run(PartialCoding(n, s, p))
        run.open()
        for worker, count in enumerate(sent):
            for part in run.scheme.parts(worker)[: 1 if count == 1 else 0]:
                assert run.scheme.bank(worker, part)
                assert not run.scheme.bank(worker, part)  # it came twice
                run.send(worker, part)
        whole = np.array(sent) == 2
        promised = 0 not in sent and int((~whole).sum()) <= s
        groups = run.scheme.code.group_of
        decodes = 0 not in sent and len(set(groups[whole])) == run.scheme.code.groups
        assert run.scheme.feasible(whole) == decodes >= promised
        done = np.stack([np.array(sent) >= 1, whole], axis=1)
        assert run.scheme.covers(done) == decodes
        if decodes:
            assert run.round(~whole)
            assert list(run.decoded) == [1]
            assert run.worst == 0
        else:
            with pytest.raises(RuntimeError, match="can't close yet"):
                run.scheme.close(whole)


@pytest.mark.parametrize(("n", "s", "p"), [(12, 1, 3), (12, 2, 5), (256, 3, 8), (7, 1, 4)])
def test_load(n: int, s: int, p: int) -> None:
    scheme = PartialCoding(n, s, p)
    assert scheme.fractions.sum() == pytest.approx(1)
    if n % (s + 1) == 0:
        assert scheme.load == pytest.approx(p / (n * (p - s)))
    assert 1 / n < scheme.load < scheme.code.load
    loads = scheme.assign().loads
    for worker in range(n):
        parts = scheme.parts(worker)
        each = [float(scheme.fractions[list(part.chunks)].sum()) for part in parts]
        assert sum(each) == pytest.approx(loads[worker])
        assert each[0] / sum(each) == pytest.approx(scheme.milestones[0])


def test_s_workers_may_be_slower_by_the_factor_that_is_promised() -> None:
    n, s, p = 12, 2, 6
    factor = p / (p - s - 1)
    speed = np.ones(n)
    speed[[0, 1]] = factor
    seconds = np.zeros((3, n))

    class Slow(Profile):
        def at(self, index: int, loads: np.ndarray) -> np.ndarray:
            return loads * speed / PartialCoding(n, s, p).load

    times = Slow(seconds, seconds, 1.0)
    done = simulate(PartialCoding(n, s, p), times, 3, Wait(mu=0.0))
    assert done.durations.tolist() == pytest.approx([1.0] * 3)
    speed[0] *= 1.5
    assert simulate(PartialCoding(n, s, p), times, 3, Wait(mu=0.0)).durations.tolist() == pytest.approx(
        [1.5] * 3
    )


@given(st.integers(0, 10**6), st.sampled_from([(6, 1, 3), (5, 2, 4), (4, 0, 2)]), st.sampled_from([0.0, 0.5]))
def test_the_simulation_ends_rounds_as_the_clockwork_does(
    seed: int, shape: tuple[int, int, int], mu: float
) -> None:
    rng = np.random.default_rng(seed)
    n = shape[0]
    first = 1 + rng.exponential(1.0, n)
    whole = first + rng.exponential(1.0, n)

    class Two(Profile):
        def at(self, index: int, loads: np.ndarray) -> np.ndarray:
            return whole if np.allclose(loads, PartialCoding(*shape).assign().loads) else first

    zeros = np.zeros((1, n))
    done = simulate(PartialCoding(*shape), Two(zeros, zeros, 1.0), 1, Wait(mu=mu))
    rounds = Rounds(PartialCoding(*shape), Wait(mu=mu))
    rounds.begin(0.0)
    events = [
        (time, worker, step) for step, times in enumerate((first, whole)) for worker, time in enumerate(times)
    ]
    if mu:
        events.append(((1 + mu) * float(whole.min()), -1, -1))
    ended = None
    for time, worker, step in sorted(events):
        if step == 0:
            rounds.scheme.bank(worker, rounds.scheme.parts(worker)[0])
        elif step == 1:
            rounds.observe(worker, time)
        if rounds.may_close(time):
            ended = rounds.close(time)
            break
    assert ended is not None
    assert done.durations[0] == pytest.approx(ended.duration)
    np.testing.assert_array_equal(done.stragglers[0], ended.stragglers)


def half_speed(worker: int, number: int) -> float:
    return 9.0 if (worker + number // 3) % 4 == 0 else 1.0


@pytest.mark.parametrize(
    ("options", "models"),
    [
        ({"scheme": "gc-partial", "stragglers": 1}, 1),
        ({"scheme": "gc-partial", "stragglers": 1, "partitions": 3, "mu": 1.0}, 2),
        ({"scheme": "m-sgc", "burst": 2, "window": 3, "distinct": 2, "mu": 2.0}, 4),
    ],
)
def test_networks_train_as_if_alone_on_what_slow_workers_have_finished(
    options: dict[str, object], models: int
) -> None:
    strategy = GradientCodingStrategy(GradientCodingOptions.model_validate(options))
    stream = strategy.open(LocalWorkers(4, seconds=half_speed), models)
    found = together(stream, range(models), [30] * models)
    for seed in range(models):
        assert_same(found[seed], alone(seed, 30), 1e-10)
    rounds = stream.journal.rounds
    assert stream.metrics()["workers/partial"] > 0
    assert any(record.partial for record in rounds)
    assert [step.difference for step in replay(stream.journal)] == [""] * len(rounds)
