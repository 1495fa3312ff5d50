"""When rounds end: by hand, and the clockwork against the simulation's bisection."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrate.plugins.gradient_coding.codes import RandomCyclic
from orchestrate.plugins.gradient_coding.schemes import (
    Approximation,
    GradientCoding,
    Multiplexed,
    Scheme,
    SelectiveRepetition,
    Uncoded,
)
from orchestrate.plugins.gradient_coding.simulation import end_of_round
from orchestrate.plugins.gradient_coding.waiting import Cause, Ended, Rounds, Rule, Wait
from tests.plugins.gradient_coding.harness import only


def play(rounds: Rounds, times: list[float] | np.ndarray, new: bool = True, start: float = 0.0) -> Ended:
    """One round with these reply times after its start, event by event."""
    working = rounds.begin(start, new).working
    if not working.any():
        return rounds.close(start)
    events = sorted((start + times[worker], int(worker)) for worker in np.flatnonzero(working))
    while True:
        waiting = {time for time in (rounds.look_again, rounds.give_up) if time is not None}
        now = events[0][0] if events else max(waiting)
        due = sorted(time for time in waiting if time < now)
        for time in due:
            if rounds.may_close(time):
                return rounds.close(time)
        while events and events[0][0] <= now:
            rounds.observe(events.pop(0)[1], now)
        if rounds.may_close(now):
            return rounds.close(now)


def test_the_window_is_a_multiple_of_the_fastest_reply() -> None:
    ended = play(Rounds(GradientCoding(4, 1), Wait(mu=1)), [1.0, 1.5, 9.0, 1.2], start=100.0)
    assert (ended.duration, ended.window, ended.cause) == (2.0, 2.0, Cause.WINDOW)
    assert ended.stragglers.tolist() == [False, False, True, False]
    assert ended.decodable == (1,)
    assert ended.fastest == 1.0


def test_nobody_is_waited_for_once_everybody_has_replied() -> None:
    ended = play(Rounds(GradientCoding(4, 1), Wait(mu=1)), [1.0, 1.5, 1.4, 1.2])
    assert (ended.duration, ended.cause) == (1.5, Cause.COMPLETE)


def test_with_mu_zero_a_round_ends_when_it_first_fits() -> None:
    ended = play(Rounds(GradientCoding(4, 1), Wait(mu=0)), [1.0, 1.5, 9.0, 1.2])
    assert (ended.duration, ended.cause) == (1.2, Cause.WAITED)
    assert ended.stragglers.tolist() == [False, True, True, False]


def test_a_freak_fast_worker_does_not_shrink_the_window() -> None:
    times = [0.01, 1.0, 1.5, 1.2]
    assert play(Rounds(Uncoded(4), Wait(mu=1)), times).waited == pytest.approx(1.48)
    assert play(Rounds(Uncoded(4), Wait(mu=1, quantile=0.4)), times).waited == 0


@pytest.mark.parametrize(
    ("rule", "duration"), [(Rule.EVERYONE, 9.0), (Rule.CONFORM, 9.0), (Rule.FEASIBLE, 9.0)]
)
def test_nothing_less_than_all_of_three_will_do(rule: Rule, duration: float) -> None:
    """Round 1 loses workers 0 and 1; in round 2, 1, 2 and 3 are late: no model takes any of them."""
    rounds = Rounds(Multiplexed(4, 1, 2, 2, RandomCyclic(4, 2)), Wait(rule))
    play(rounds, [9.0, 9.0, 1.0, 1.0])
    assert play(rounds, [1.0, 7.0, 8.0, 9.0]).duration == duration


def test_rules_differ_in_whom_they_wait_for() -> None:
    ends = {}
    for rule in Rule:
        rounds = Rounds(GradientCoding(6, 1), Wait(rule))
        ends[rule] = play(rounds, [1.0, 3.0, 1.0, 1.0, 4.0, 5.0])
    assert ends[Rule.EVERYONE].duration == 5.0
    assert ends[Rule.CONFORM].duration == 4.0  # one straggler is allowed
    assert ends[Rule.FEASIBLE].duration == 4.0  # the last group is covered
    rounds = Rounds(GradientCoding(6, 1), Wait())
    assert play(rounds, [1.0, 3.0, 1.0, 4.0, 1.0, 5.0]).duration == 2.0
    rounds = Rounds(GradientCoding(6, 1), Wait(Rule.CONFORM))
    assert play(rounds, [1.0, 3.0, 1.0, 4.0, 1.0, 5.0]).duration == 4.0


def test_idle_workers_are_no_stragglers_and_an_empty_round_takes_no_time() -> None:
    rounds = Rounds(SelectiveRepetition(4, 1, 2, 2, RandomCyclic(4, 1)), Wait())
    play(rounds, [9.0, 9.0, 1.0, 1.0])
    ended = play(rounds, [1.0, 1.0, 1.0, 1.0], new=False)
    assert ended.decodable == (1,)
    assert not ended.stragglers.any()
    assert play(rounds, [1.0] * 4, new=False).duration == 0


def test_the_approximate_fallback_is_off_unless_it_is_asked_for() -> None:
    times = [1.0, 1.0, 20.0, 20.0, 1.0, 1.0]
    assert play(Rounds(GradientCoding(6, 1), Wait(mu=0, patience=2.0)), times).duration == 20.0
    scheme = GradientCoding(6, 1, approximation=Approximation(0.5, budget=1))
    rounds = Rounds(scheme, Wait(mu=0, patience=2.0))
    ended = play(rounds, times)
    assert (ended.duration, ended.cause) == (3.0, Cause.GAVE_UP)
    decoding = scheme.decode(1)
    assert not decoding.exact
    assert {term.worker: term.weight for term in decoding.terms} == {0: 1.5, 4: 1.5}
    assert play(rounds, times).duration == 20.0  # the budget is spent
    assert scheme.decode(2).exact


def test_half_of_a_gradient_is_too_little() -> None:
    scheme = GradientCoding(4, 1, approximation=Approximation(0.4, budget=9))
    assert play(Rounds(scheme, Wait(mu=0, patience=1.0)), [1.0, 1.0, 20.0, 20.0]).duration == 20.0


@pytest.mark.parametrize(("gone", "residual2"), [((2, 3), 4.0), ((0, 1), 12 / 11)])
def test_what_a_random_code_recovers_beyond_its_promise(gone: tuple[int, ...], residual2: float) -> None:
    code = RandomCyclic(4, 1, H=np.array([[1.0, 1, 1, -3]]))
    weights = code.approximate(~only(4, *gone))
    assert code.deviation(weights) * 4 == pytest.approx(residual2)


SCHEMES = [
    lambda: Uncoded(5),
    lambda: GradientCoding(6, 1),
    lambda: GradientCoding(6, 1, approximation=Approximation(0.6, 3)),
    lambda: SelectiveRepetition(6, 1, 2, 3),
    lambda: Multiplexed(6, 1, 2, 2),
    lambda: Multiplexed(5, 2, 2, 3),
    lambda: Multiplexed(4, 2, 3, 4),
]


@settings(max_examples=150)
@given(
    st.sampled_from(range(len(SCHEMES))),
    st.sampled_from(list(Rule)),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([0.4, 2.0, np.inf]),
    st.integers(0, 10**6),
)
def test_the_simulation_ends_rounds_as_the_clockwork_does(
    which: int, rule: Rule, mu: float, quantile: float, patience: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    wait = Wait(rule, mu, quantile, max(mu, patience))
    rounds, other = Rounds(SCHEMES[which](), wait), SCHEMES[which]()
    for _ in range(8):
        new = bool(rng.random() < 0.8)
        times = np.round(1 + rng.exponential(1.0, other.n), 2)
        ended = play(rounds, times, new)
        working = other.assign(new).working
        if not working.any():
            assert ended.duration == 0
            other.close(~working)
            continue
        duration, waited, cause, replied = end_of_round(other, working, times[:, None], wait)
        assert ended.duration == pytest.approx(duration)
        assert ended.waited == pytest.approx(waited)
        assert ended.cause == cause
        assert ended.decodable == closed(other, replied, ended)


def closed(scheme: Scheme, replied: np.ndarray, ended: Ended) -> tuple[int, ...]:
    found = scheme.close(replied)
    np.testing.assert_array_equal(found.stragglers, ended.stragglers)
    return found.decodable
