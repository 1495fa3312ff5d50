from __future__ import annotations

import math

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from orchestrate.plugins.functional_hash.numbers import centred, normals, project, seed_of, uniforms
from orchestrate.plugins.functional_hash.signature import keyed, marks, smallest

Q = 1e-6
NUMBERS = st.floats(-1e6, 1e6)
VECTORS = st.lists(NUMBERS, min_size=1, max_size=8)


@given(VECTORS, st.floats(-1, 1))
def test_noise_meets_on_one_of_the_grids(values: list[float], direction: float) -> None:
    moved = [value + direction * 1e-12 * max(1.0, abs(value)) for value in values]
    one, two = keyed("", values, Q), keyed("", moved, Q)
    close = [math.asinh(value) / Q for value in values]
    # On the edge of a cell of both grids at once are only vectors that have entries on both.
    assume(
        not (
            any(abs(x - math.floor(x) - 0.5) < 1e-4 for x in close)
            and any(min(x - math.floor(x), math.ceil(x) - x) < 1e-4 for x in close)
        )
    )
    assert one[0] == two[0] or one[1] == two[1]


@given(VECTORS, st.integers(0, 7), st.sampled_from([-1, 1]))
def test_ten_quanta_are_seen(values: list[float], index: int, sign: int) -> None:
    index %= len(values)
    changed = list(values)
    changed[index] += sign * 10 * Q * math.hypot(1, values[index])
    one, two = keyed("", values, Q), keyed("", changed, Q)
    assert one[0] != two[0]
    assert one[1] != two[1]


@given(VECTORS)
def test_order_and_length_count(values: list[float]) -> None:
    assert keyed("", values, Q) != keyed("", [*values, 0.0], Q)
    if abs(values[0] - values[-1]) > 1:
        assert keyed("", values, Q) != keyed("", list(reversed(values)), Q)


def test_symbols() -> None:
    nan, inf = float("nan"), float("inf")
    assert marks([0.0], Q) == marks([-0.0], Q) == marks([1e-17], Q)
    assert len({marks([value], Q) for value in (nan, inf, -inf, 0.0, 1e300)}) == 5
    assert marks([nan], Q) == marks([-nan], Q)
    assert keyed({"a": 1}, [1.0], Q) != keyed({"a": 2}, [1.0], Q)


def test_numbers_are_the_same_for_ever() -> None:
    assert uniforms(3, 7).tolist() == [0.8720734548204873, 0.29536538151378355, 0.4200976785072422]
    assert seed_of("a", 1) == 139430118705874018724117186389042120154


def test_numbers_have_unit_variance() -> None:
    for drawn in (centred(20_000, 1), normals(20_000, 1)):
        assert abs(drawn.mean()) < 0.03
        assert abs(drawn.std() - 1) < 0.02
    assert abs(project(centred(100_000, 2)).std() - 1) < 1  # long vectors keep their scale, too


def test_smallest_takes_near_ties_for_ties() -> None:
    rows = [np.array([1.0, 5.0]), np.array([1.0 + 1e-9, 4.0]), np.array([2.0, 0.0])]
    assert smallest(rows, 1e-7) == 1
    assert smallest(rows, 0.0) == 0
