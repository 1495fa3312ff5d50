import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrate.core.training.schedules import (
    SCHEDULES,
    constant,
    cosine,
    cosine_power,
    linear,
    multistep,
    step,
)

DECAYS = [linear, cosine, cosine_power]


def curve(schedule, total):
    return [schedule(at) for at in range(total + 1)]


def test_table_names_every_schedule():
    assert set(SCHEDULES) == {
        "constant",
        "cosine",
        "cosine-power",
        "linear",
        "multistep",
        "step",
    }


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    total=st.integers(1, 400),
    warmup=st.floats(0, 0.3),
)
def test_factors_rise_through_the_warm_up_then_never_rise(name, total, warmup):
    rise = min(round(warmup * total), total - 1)
    factors = curve(SCHEDULES[name](total, warmup=warmup), total)
    assert all(0 <= factor <= 1 + 1e-12 for factor in factors)
    assert all(after > before for before, after in pairwise(factors[:rise]))
    assert all(after <= before + 1e-12 for before, after in pairwise(factors[rise:]))


@given(
    decay=st.sampled_from(DECAYS),
    total=st.integers(1, 300),
    warmup=st.floats(0, 0.5),
    final=st.floats(0, 1),
)
def test_decays_start_full_after_the_warm_up_and_end_at_final(decay, total, warmup, final):
    schedule = decay(total, warmup=warmup, final=final)
    rise = min(round(warmup * total), total - 1)
    assert schedule(rise) == pytest.approx(1)
    assert schedule(total) == pytest.approx(final)
    assert schedule(total + 1000) == pytest.approx(final)
    if rise:
        assert schedule(0) == pytest.approx(final + (1 - final) / (rise + 1))


@given(power=st.floats(1.001, 1000), total=st.integers(1, 100), at=st.integers(0, 100))
def test_cosine_power_is_the_papers_formula(power, total, at):
    at = min(at, total)
    c = (1 + math.cos(math.pi * at / total)) / 2
    expected = (power ** (c + 1) - power) / (power**2 - power)
    assert cosine_power(total, power=power)(at) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("power", [0.5, 1, 1 + 1e-15, 2, 10, 1e6])
def test_cosine_power_passes_its_known_midpoint(power):
    assert cosine_power(100, power=power)(50) == pytest.approx(1 / (1 + math.sqrt(power)))


def test_cosine_power_tends_to_cosine():
    assert curve(cosine_power(50, power=1), 50) == curve(cosine(50), 50)
    assert curve(cosine_power(50, power=1 + 1e-12), 50) == pytest.approx(curve(cosine(50), 50))


def test_cosine_power_at_published_points():
    """arXiv 1903.09900's rate, 0.025 to 1e-4 with p = 2, by hand at a quarter of the way."""
    c = (1 + math.cos(math.pi / 4)) / 2
    rate = 1e-4 + (0.025 - 1e-4) * (2**c - 1)
    assert 0.025 * cosine_power(120, power=2, final=1e-4 / 0.025)(30) == pytest.approx(rate)


def test_steps():
    assert curve(multistep(8, milestones=[0.5, 0.75]), 7) == pytest.approx([1] * 4 + [0.1] * 2 + [0.01] * 2)
    assert curve(step(9, every=1 / 3, factor=0.5), 8) == pytest.approx([1] * 3 + [0.5] * 3 + [0.25] * 3)
    assert curve(step(4, every=0.3), 3) == pytest.approx([1, 0.1, 0.01, 0.01], rel=1e-9)
    assert curve(constant(5, warmup=0.4), 4) == pytest.approx([1 / 3, 2 / 3, 1, 1, 1])


@pytest.mark.parametrize(
    ("make", "options", "says"),
    [
        (cosine, {"warmup": 5}, "share of the training"),
        (cosine, {"final": 1.5}, "share of the full rate"),
        (cosine_power, {"power": 0}, "above 0"),
        (multistep, {"milestones": [30, 60]}, "between 0 and 1"),
        (multistep, {"factor": 0}, "above 0"),
        (step, {"every": 0}, "share of the training"),
    ],
)
def test_bad_options_are_refused(make, options, says):
    with pytest.raises(ValueError, match=says):
        make(100, **options)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="at least one step"):
        cosine(0)
