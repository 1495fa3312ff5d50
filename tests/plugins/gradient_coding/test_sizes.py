"""Models of different sizes on one pool: a slope for each, and what rounds without a job cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from orchestrate.core.testing import LocalWorkers
from orchestrate.plugins.gradient_coding.codes.base import Floats
from orchestrate.plugins.gradient_coding.replay import replay, select
from orchestrate.plugins.gradient_coding.schemes import GradientCoding, Multiplexed, Uncoded
from orchestrate.plugins.gradient_coding.selection import Plan, Selector, compare, probes
from orchestrate.plugins.gradient_coding.selection.choose import replay as predict
from orchestrate.plugins.gradient_coding.simulation import simulate
from orchestrate.plugins.gradient_coding.stragglers.profile import Profile, fit_slope, fit_slopes
from orchestrate.plugins.gradient_coding.waiting import Wait
from tests.plugins.gradient_coding.test_session import strategy
from tests.plugins.gradient_coding.training import Classifier, alone, assert_same, together

SLOPES = {3: 2.0, 5: 2.0, 8: 20.0}  # seconds for a whole job of each model


def times(shares: Mapping[int, Floats], rng: np.random.Generator) -> Floats:
    """Reply times: a second, each model's share of the work, and one worker in ten late by nine."""
    n = len(next(iter(shares.values())))
    work = sum((SLOPES[model] * share for model, share in shares.items()), np.zeros(n))
    return 1.0 + work + 0.02 * rng.random(n) + 9.0 * (rng.random(n) < 0.1)


def probed(n: int, rounds: int, rng: np.random.Generator) -> Selector:
    """A selection that knows the probes of three models."""
    selector = Selector(n, 2)
    for plan in probes(n):
        scheme = plan.make(n)
        for index in range(rounds):
            (share,) = scheme.assign().shares.values()
            shares = {list(SLOPES)[index % 3]: share}
            seconds = times(shares, rng)
            selector.record(shares, seconds, float(seconds.max()))
            for job in scheme.close(np.ones(n, dtype=bool)).decodable:
                scheme.discard(job)
    return selector


def test_each_model_has_a_slope() -> None:
    profile = probed(24, 12, np.random.default_rng(0)).profile()
    expected = np.array(list(SLOPES.values()))
    assert profile.slope == pytest.approx(expected.mean(), rel=0.15)
    assert np.array(profile.costs) == pytest.approx(expected / expected.mean(), rel=0.25)
    assert np.mean(profile.costs) == pytest.approx(1.0)


def test_one_model_s_slope_is_the_line_s() -> None:
    loads = np.array([[0.1, 0.1, 0.2], [0.4, 0.2, 0.1]])
    assert fit_slope(loads, 0.5 + 3 * loads) == pytest.approx(3.0)
    assert fit_slope(loads, 9 - loads) == 0.0
    assert fit_slope(np.full((3, 4), 0.1), np.ones((3, 4))) is None
    two = np.array([[0.1, 0], [0, 0.1], [0.2, 0], [0, 0.2]])
    assert fit_slopes(two, 1 + two @ [2.0, 30.0]) == pytest.approx([2.0, 30.0])
    assert fit_slopes(two[:2], np.ones(2)) is None  # two levels don't tell three unknowns


def test_slopes_are_told_where_a_code_waits_for_half_of_the_replies() -> None:
    """Half and more of the larger loads' times are unknown, and one known time in ten is a straggler's."""
    rng = np.random.default_rng(4)
    rows = [(0.2, 0.0), (0.0, 0.2), (0.5, 0.0), (0.0, 0.5)]
    loads = np.array([rows[index % 4] for index in range(400)])
    seconds = 1 + loads @ [2.0, 30.0] + 6.0 * (rng.random(400) < 0.1)
    for row in rows[2:]:
        (which,) = np.nonzero((loads == row).all(axis=1))
        seconds[which[np.argsort(seconds[which])[45:]]] = np.inf  # 45 of 100 are waited for
    assert fit_slopes(loads, seconds) == pytest.approx([2.0, 30.0])
    seconds[(loads == rows[2]).all(axis=1)] = np.inf
    assert fit_slopes(loads, seconds) is not None  # the others tell it as well
    seconds[(loads == rows[0]).all(axis=1)] = np.inf
    assert fit_slopes(loads, seconds) is None


def test_a_replay_takes_each_job_s_own_time() -> None:
    """By hand: job 1 of the small model takes 1 + 1/4 s, job 2 of the large one 1 + 3/4 s, and so on."""
    calm = Profile(np.ones((9, 4)), np.zeros((9, 4)), 2.0, costs=(0.5, 1.5))
    assert simulate(Uncoded(4), calm, 4).durations == pytest.approx([1.25, 1.75, 1.25, 1.75])
    assert simulate(GradientCoding(4, 1), calm, 2).durations == pytest.approx([1.5, 2.5])
    scheme = Multiplexed(4, 1, 2, 4)  # two slots, a quarter of a job each: of job t and of job t - 1
    found = simulate(scheme, calm, 3, Wait(mu=9.0)).durations
    assert found[:3] == pytest.approx([1.25, 1.75, 1.25])  # nothing was lost, so nothing is repeated


def test_what_is_predicted_is_what_the_models_take() -> None:
    """Replays of uneven rounds agree with rounds made up afresh by each model's own slope."""
    rng = np.random.default_rng(1)
    selector = probed(24, 24, rng)
    profile = selector.profile()
    for plan in (
        Plan("uncoded"),
        Plan("gc-frc", {"s": 3}, Wait(mu=0.0)),
        Plan("gc-frc", {"s": 7}, Wait(mu=0.0)),
    ):
        told, _ = predict(plan, profile, 60)
        scheme, total = plan.make(24), 0.0
        for index in range(300):
            (share,) = scheme.assign().shares.values()
            arrivals = np.sort(seconds := times({list(SLOPES)[index % 3]: share}, rng))
            end = next(one for one in arrivals if scheme.feasible(seconds <= one))
            total += float(end)
            for job in scheme.close(seconds <= end).decodable:
                scheme.discard(job)
        assert told.seconds_per_job == pytest.approx(total / 300, rel=0.08)


def test_the_choice_is_for_the_models_that_are_left() -> None:
    """With the large model, computing each share four times takes too long; without it, it doesn't."""
    rng = np.random.default_rng(2)
    selector = probed(24, 24, rng)
    selector.most_delay = 0
    both = selector.decide(probes(24)[0])
    selector.retire(8)
    small = selector.decide(probes(24)[0])
    assert selector.models == [3, 5]
    assert selector.profile().slope == pytest.approx(2.0, rel=0.5)
    assert both.plan.scheme == small.plan.scheme == "gc-frc"
    assert both.plan.parameters["s"] < small.plan.parameters["s"]


def test_bubbles_are_counted() -> None:
    rng = np.random.default_rng(3)
    profile = probed(24, 12, rng).profile()
    report = compare(profile, 2, ("m-sgc", "gc-frc"))
    for one in report.best:
        assert (one.bubbles > 0) == (one.delay > 0)
        assert one.bubbles < 0.2
    done = simulate(Multiplexed(4, 1, 2, 2), Profile(np.ones((5, 4)), np.zeros((5, 4)), 0.0), 4)
    told, _ = predict(
        Plan("m-sgc", {"B": 1, "W": 2, "lambda": 2}), Profile(np.ones((5, 4)), np.zeros((5, 4)), 0.0), 4
    )
    assert len(done.durations) == 5
    assert told.bubbles == pytest.approx(1 / 5)


class Sized(Classifier):
    """A network that takes so many times longer than others."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.cost = 8.0 if seed == 2 else 1.0


class Weighed(LocalWorkers):
    """Workers whose tasks take as long as their samples and the networks' sizes say."""

    def _begin(self, task: Any) -> None:
        samples = [(sum(map(len, one.chunks)), one.replica.open().cost) for one in task.argument]
        rng = np.random.default_rng([task.number])
        late = 6.0 * (rng.random() < 0.1)
        self._seconds = lambda worker, number: 1.0 + late + sum(count * cost / 37 for count, cost in samples)
        super()._begin(task)


@pytest.mark.usefixtures("virtual")
def test_models_of_different_sizes_train_and_stop_by_themselves() -> None:
    group = Weighed(6, deaf=range(6))
    stream = strategy(scheme="auto", probe=12, reselect=40, quarantine=None).open(group, 3)
    steps = [90, 80, 35]  # the large one is stopped early
    found = together(stream, range(3), steps, Sized)
    for seed, count in enumerate(steps):
        assert_same(found[seed], alone(seed, count, Sized), 1e-10)
    slopes = stream._planner._selector._slopes
    assert slopes[2] / slopes[0] == pytest.approx(8.0)
    assert stream._planner._selector.models == []
    assert not [step.difference for step in replay(stream.journal) if step.difference]
    told = stream.metrics()
    rounds = [record for record in stream.journal.rounds if record.job is None]
    spent = sum(record.seconds for record in rounds) / sum(record.seconds for record in stream.journal.rounds)
    assert told["workers/bubble_share"] == pytest.approx(spent)
    # What a journal tells afterwards is what the session knew.
    assert select(stream.journal, 2).profile().n == 6
    costs = select(stream.journal, 2).profile().costs
    assert costs[2] / costs[0] == pytest.approx(8.0, rel=0.2)
