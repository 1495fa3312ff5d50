"""Selection: the right scheme where it is clear, none where nothing is to be gained."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrate.plugins.gradient_coding.planning import Auto, has_changed
from orchestrate.plugins.gradient_coding.schemes import GradientCoding, Multiplexed
from orchestrate.plugins.gradient_coding.selection import (
    Plan,
    Selector,
    compare,
    create,
    families,
    probes,
    search,
)
from orchestrate.plugins.gradient_coding.simulation import Costs, simulate
from orchestrate.plugins.gradient_coding.stragglers.generators import GilbertElliott, Service
from orchestrate.plugins.gradient_coding.stragglers.profile import Profile
from orchestrate.plugins.gradient_coding.waiting import Wait


def made_up(
    chain: GilbertElliott | None, slope: float, n: int = 24, rounds: int = 60, seed: int = 0
) -> Profile:
    rng = np.random.default_rng(seed)
    slow = chain.pattern(rounds, n, rng) if chain else np.zeros((rounds, n), dtype=bool)
    return Service(slope=slope).profile(slow, rng)


def test_coding_is_chosen_where_stragglers_are() -> None:
    report = compare(made_up(GilbertElliott(0.05, 0.8), 1.0), 0)
    assert report.codes
    assert report.choice.scheme == "gc-frc"
    assert report.gain > 0.3
    assert report.interval[0] <= report.gain <= report.interval[1]
    assert [one.plan.scheme for one in report.best] == ["gc-frc", "uncoded"]


def test_no_coding_where_compute_is_everything() -> None:
    report = compare(made_up(GilbertElliott(0.02, 0.9), 500.0), 0)
    assert report.choice == Plan("uncoded")
    assert not report.codes


def test_no_coding_where_the_overhead_eats_the_gain() -> None:
    profile = made_up(GilbertElliott(0.05, 0.8), 1.0)
    assert compare(profile, 3).codes
    costly = compare(profile, 3, schemes=("m-sgc",), costs=Costs(vector=1.0))
    assert not costly.codes


def test_the_delay_is_within_what_the_models_allow() -> None:
    for most in (0, 1, 3):
        for family in families(12, most, ("gc", "gc-frc", "sr-sgc", "m-sgc", "uncoded", "backup")):
            for plan in family:
                assert plan.make(12, simulated=True).delay <= most
    assert not [f for f in families(12, 0) if f[0].scheme != "gc-frc"]


def test_the_search_finds_what_trying_everything_finds() -> None:
    profile = made_up(GilbertElliott(0.08, 0.7), 4.0, n=16, rounds=40)
    jobs = profile.rounds
    best = search(profile, 0, ("gc-frc",))[0]
    every = [
        simulate(GradientCoding(16, s), profile, jobs, Wait(mu=mu)).seconds / jobs
        for s in range(1, 16)
        for mu in (0, 0.25, 1)
    ]
    assert best.seconds_per_job <= min(every) * 1.01


def test_backup_workers_are_shown_but_not_chosen() -> None:
    report = compare(made_up(GilbertElliott(0.05, 0.8), 1.0), 0, ("backup", "gc-frc"))
    assert "backup" in [one.plan.scheme for one in report.best]
    assert report.choice.scheme == "gc-frc"


def test_too_few_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="measure at least 14"):
        compare(made_up(None, 1.0, rounds=10), 3)


def test_plans_make_their_schemes() -> None:
    assert isinstance(create("m-sgc", 4, {"B": 1, "W": 2, "lambda": 2}), Multiplexed)
    assert repr(create("gc", 5, {"s": 2})) == "gc(5, s=2)"
    assert str(Plan("m-sgc", {"B": 1, "W": 2, "lambda": 2})) == "m-sgc(B=1, W=2, lambda=2)"
    assert Plan("gc-frc", {"s": 1}).describe() == {"scheme": "gc-frc", "s": 1, "wait": "feasible", "mu": 1.0}
    with pytest.raises(ValueError, match="known are uncoded"):
        create("sgc", 4, {})


# Online ---------------------------------------------------------------------------------------------


def feed(selector: Selector, profile: Profile, plan: Plan, start: int, count: int) -> None:
    """Run rounds of a plan over a profile, with nothing known of what was not waited for."""
    scheme = plan.make(profile.n)
    for index in range(start, start + count):
        loads = scheme.assign().loads
        times = profile.at(index, loads)
        duration = min(times.max(), 2 * times.min())
        replied = times <= duration
        if plan.scheme == "uncoded" or not scheme.feasible(replied):
            replied[:], duration = True, times.max()
        for job in scheme.close(replied).decodable:
            scheme.discard(job)
        selector.record({0: loads}, np.where(replied, times, np.nan), float(duration))


def test_it_switches_where_it_pays_and_then_stays() -> None:
    profile = made_up(GilbertElliott(0.05, 0.8), 1.0)
    selector = Selector(24, 0, window=60)
    uncoded, *coded = probes(24)
    assert not selector.decide(uncoded).switch
    feed(selector, profile, uncoded, 0, 20)
    for number, plan in enumerate(coded):
        feed(selector, profile, plan, 20 + 10 * number, 10)
    assert selector.profile().slope == pytest.approx(1.0, rel=0.5)
    first = selector.decide(uncoded)
    assert first.switch
    assert first.plan.scheme == "gc-frc"
    assert "the probe is over" in first.reason
    assert "to drain" in selector.decide(Plan("uncoded")).reason
    again = selector.decide(first.plan)
    assert not again.switch
    assert "still the best" in again.reason


def test_it_goes_back_when_the_stragglers_are_gone() -> None:
    calm = made_up(None, 40.0, rounds=80)
    selector = Selector(24, 0, slope=40.0)
    feed(selector, calm, Plan("gc-frc", {"s": 3}), 0, 60)
    decision = selector.decide(Plan("gc-frc", {"s": 3}))
    assert decision.switch
    assert decision.plan == Plan("uncoded")


def test_replies_that_nobody_waited_for_are_taken_as_longer_than_the_round() -> None:
    selector = Selector(4, 0, slope=1.0)
    loads = np.full(4, 0.25)
    selector.record({0: loads}, np.array([1.0, 1.0, 1.0, 5.0]), 5.0)
    selector.record({0: loads}, np.array([1.0, 1.0, 1.0, np.nan]), 2.0)
    assert selector.profile().seconds[1].tolist() == [1.0, 1.0, 1.0, 5.0]
    alone = Selector(4, 0, slope=1.0)
    alone.record({0: loads}, np.array([1.0, 1.0, 1.0, np.nan]), 2.0)
    assert alone.profile().seconds[0, 3] == 4.0


def test_without_different_loads_coding_is_not_favoured() -> None:
    selector = Selector(24, 0)
    feed(selector, made_up(None, 1.0), Plan("uncoded"), 0, 30)
    assert selector.profile().slope > 10
    assert not selector.decide(Plan("uncoded")).switch
    assert selector.decide(probes(24)[0]).plan == Plan("uncoded")


def test_a_change_of_times_is_told() -> None:
    assert not has_changed([1.0] * 40)
    assert not has_changed([1.0] * 16 + [2.0] * 15)
    assert has_changed([1.0] * 16 + [2.0] * 16)
    assert has_changed([2.0] * 16 + [1.0] * 16)


def test_auto_decides_anew_when_times_change() -> None:
    planner = Auto(6, 1, probe=8, every=1000)
    rng = np.random.default_rng(0)

    def rounds(count: int, late: float) -> list[str]:
        """Run rounds of the chosen scheme that wait for everyone; give the schemes that were switched to."""
        taken: list[str] = []
        for _ in range(count):
            if planner.due:
                scheme = planner.choose(1, 6).scheme
                taken.append(scheme.name)
            loads = np.full(6, planner._plan.make(6).load)
            seconds = 1.0 + 6 * loads + 0.01 * rng.random(6)
            seconds[rng.integers(6)] += late
            planner.record({0: loads}, seconds, float(seconds.max()), 0.0)
            if planner._deciding is not None:
                planner._deciding.result()
        return taken

    planner.choose(1, 6)
    assert rounds(40, 0.0)[-1] == "uncoded"  # nobody straggles, and computing takes long
    assert rounds(40, 0.0) == []
    assert rounds(40, 9.0) == ["gc-frc"]
