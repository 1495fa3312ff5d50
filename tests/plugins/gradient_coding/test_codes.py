"""Codes: every pattern within the promise decodes, every pattern beyond it is refused."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrate.plugins.gradient_coding.codes import (
    Code,
    CyclicMDS,
    Expander,
    FractionalRepetition,
    RandomCyclic,
    UndecodableError,
    make,
)
from tests.plugins.gradient_coding.harness import only

Make = Callable[[int, int], Code]
CODES: tuple[Make, ...] = (FractionalRepetition, RandomCyclic, CyclicMDS)
SIZES = [(n, s) for n in range(1, 8) for s in range(n)]

A = np.array([[1.0, 1, 1, -3]])
B = np.array([[1.0, 0, 1, -2], [0, 1, 2, -3]])


def gradients(code: Code) -> np.ndarray:
    return np.random.default_rng(3).integers(-50, 51, (len(code.fractions), 4)).astype(float)


def without(n: int, gone: tuple[int, ...]) -> np.ndarray:
    return ~only(n, *gone)


@pytest.mark.parametrize("make", CODES)
@pytest.mark.parametrize(("n", "s"), SIZES)
def test_every_pattern_of_a_small_code(make: Make, n: int, s: int) -> None:
    code = make(n, s)
    g = gradients(code)
    truth = g.sum(axis=0)
    replies = code.matrix @ g
    for count in range(n + 1):
        for gone in itertools.combinations(range(n), count):
            replied = without(n, gone)
            if count <= s:
                assert code.decodable(replied)
            elif not isinstance(code, FractionalRepetition):
                assert not code.decodable(replied)
            try:
                weights = code.decode(replied)
            except UndecodableError:
                assert count > s
                assert not code.decodable(replied)
                continue
            assert not weights.values[~replied].any()
            decoded = weights.values @ replies
            if isinstance(code, FractionalRepetition):
                np.testing.assert_array_equal(decoded, truth)
            else:
                np.testing.assert_allclose(decoded, truth, rtol=0, atol=1e-9 * np.linalg.norm(truth))


@pytest.mark.parametrize("make", CODES)
@pytest.mark.parametrize(("n", "s"), SIZES)
def test_each_chunk_is_on_more_than_s_workers(make: Make, n: int, s: int) -> None:
    code = make(n, s)
    assert code.fractions.sum() == pytest.approx(1)
    assert ((code.matrix != 0).sum(axis=0) > s).all()
    assert code.load >= (s + 1) / n - 1e-12
    if not isinstance(code, FractionalRepetition) or n % (s + 1) == 0:
        assert code.load == pytest.approx((s + 1) / n)


@given(st.integers(1, 40), st.data())
def test_repetition_decodes_when_and_only_when_every_group_has_a_reply(n: int, data: st.DataObject) -> None:
    code = FractionalRepetition(n, data.draw(st.integers(0, n - 1)))
    replied = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    covered = all(replied[code.group_of == group].any() for group in range(code.groups))
    assert code.decodable(replied) == covered
    if covered:
        assert code.decode(replied).values.sum() == code.groups
    else:
        with pytest.raises(UndecodableError, match="Wait for another reply"):
            code.decode(replied)


def test_repetition_where_the_groups_do_not_come_out_even() -> None:
    code = FractionalRepetition(256, 27)
    assert code.groups == 9
    assert code.load == pytest.approx(1 / 9)
    assert np.bincount(code.group_of).min() >= 28
    assert FractionalRepetition(256, 15).load == 16 / 256


# Worked examples, by hand --------------------------------------------------------------------------


def decoded(code: Code, *gone: int) -> list[float]:
    return code.decode(without(code.n, gone)).values.tolist()


def test_one_straggler_of_four() -> None:
    code = RandomCyclic(4, 1, H=A)
    np.testing.assert_allclose(code.matrix, [[1, -1, 0, 0], [0, 1, -1, 0], [0, 0, 1, 1 / 3], [3, 0, 0, 1]])
    assert decoded(code, 0) == pytest.approx([0, 1, 2, 1 / 3])
    assert decoded(code, 1) == pytest.approx([-1, 0, 1, 2 / 3])
    assert decoded(code, 2) == pytest.approx([-2, -1, 0, 1])
    assert decoded(code, 3) == pytest.approx([1, 2, 3, 0])


def test_two_stragglers_of_four() -> None:
    code = RandomCyclic(4, 2, H=B)
    expected = [[1, 2, -1, 0], [0, 1, -2, -1], [1 / 3, 0, 1, 2 / 3], [2, 3, 0, 1]]
    np.testing.assert_allclose(code.matrix, expected, atol=1e-12)
    assert decoded(code, 0, 1) == pytest.approx([0, 0, 1, 1 / 3])
    assert decoded(code, 0, 2) == pytest.approx([0, -1 / 2, 0, 1 / 2])
    assert decoded(code, 0, 3) == pytest.approx([0, 1, 3, 0])
    assert decoded(code, 1, 2) == pytest.approx([-1, 0, 0, 1])
    assert decoded(code, 1, 3) == pytest.approx([1 / 2, 0, 3 / 2, 0])
    assert decoded(code, 2, 3) == pytest.approx([1, -1, 0, 0])


def test_rows_of_the_cyclic_mds_code() -> None:
    np.testing.assert_allclose(CyclicMDS(4, 1).matrix[0], [1, 1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(CyclicMDS(5, 2).matrix[0], [0.618034, 1, 0.618034, 0, 0], atol=1e-6)


def test_a_complex_code_gives_no_row_for_gradients() -> None:
    assert CyclicMDS(5, 2).is_real
    code = CyclicMDS(4, 2)
    assert not code.is_real
    with pytest.raises(ValueError, match="complex"):
        code.row(0)


# 256 workers -----------------------------------------------------------------------------------------


def errors(code: Code, patterns: list[np.ndarray]) -> list[float]:
    rng = np.random.default_rng(1)
    g = rng.standard_normal((len(code.fractions), 32))
    g /= np.linalg.norm(g, axis=1, keepdims=True)
    truth, replies = g.sum(axis=0), code.matrix @ g
    return [
        float(np.linalg.norm(code.solve(~gone).values @ replies - truth) / np.linalg.norm(truth))
        for gone in patterns
    ]


def scattered(n: int, s: int, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [only(n, *rng.choice(n, s, replace=False)) for _ in range(count)]


def contiguous(n: int, s: int) -> list[np.ndarray]:
    return [only(n, *((start + np.arange(s)) % n)) for start in range(n)]


def test_random_code_of_256() -> None:
    code = RandomCyclic(256, 15)
    assert code.condition < 1e4
    assert max(errors(code, scattered(256, 15, 1000) + contiguous(256, 15))) < 1e-7


def test_repetition_of_256() -> None:
    assert max(errors(FractionalRepetition(256, 15), scattered(256, 15, 300))) < 1e-14


def test_cyclic_mds_of_256_is_for_scattered_stragglers() -> None:
    code = CyclicMDS(256, 15)
    assert max(errors(code, scattered(256, 15, 5))) < 1e-8
    together = ~contiguous(256, 15)[0]
    assert code.solve(together).residual > 1e-6
    assert not code.decodable(together)
    with pytest.raises(UndecodableError):
        code.decode(together)


def test_seeds_repeat_and_differ() -> None:
    one, same, other = (RandomCyclic(12, 3, seed).matrix for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


def test_more_draws_condition_better() -> None:
    conditions = [RandomCyclic(64, 7, seed=1, draws=draws).condition for draws in (1, 5, 20)]
    assert conditions == sorted(conditions, reverse=True)
    assert conditions[0] > conditions[-1]


def test_a_pattern_is_solved_once() -> None:
    code = RandomCyclic(8, 2)
    replied = without(8, (1, 5))
    assert code.decode(replied) is code.decode(replied.copy())
    assert code.decode(without(8, (1,))) is not code.decode(replied)


@pytest.mark.parametrize("make", CODES)
def test_impossible_codes(make: Make) -> None:
    for n, s in ((3, 3), (3, -1)):
        with pytest.raises(ValueError, match="tolerates 0 to 2"):
            make(n, s)


@pytest.mark.parametrize(("n", "degree"), [(8, 3), (9, 4), (10, 5)])
def test_no_stragglers_of_an_expander_code_cost_more_than_its_bound(n: int, degree: int) -> None:
    code = Expander(n, degree)
    assert code.load == degree / n
    assert code.decode(np.ones(n, dtype=bool)).values.tolist() == [1.0] * n
    for s in range(1, n):
        for gone in itertools.combinations(range(n), s):
            weights = code.approximate(without(n, gone))
            assert not code.decodable(without(n, gone))
            assert np.sqrt(code.deviation(weights) * n) <= code.bound(s) + 1e-9


def test_expander_codes_that_are_no_graphs() -> None:
    for n, degree in ((5, 3), (4, 4), (4, 0)):
        with pytest.raises(ValueError, match="no graph"):
            Expander(n, degree)


@pytest.mark.parametrize(
    "code",
    [
        FractionalRepetition(7, 2),
        RandomCyclic(7, 2, seed=5),
        RandomCyclic(4, 1, H=np.array([[1.0, 1, 1, -3]])),
        CyclicMDS(7, 2),
        Expander(8, 3, seed=2),
    ],
    ids=["repetition", "random", "given", "mds", "expander"],
)
def test_what_describes_a_code_makes_it_again_bit_for_bit(code: Code) -> None:
    described = json.loads(json.dumps(code.describe()))
    again = make(described)
    assert type(again) is type(code)
    assert again.matrix.tobytes() == code.matrix.tobytes()
    assert again.describe() == described
    if isinstance(code, RandomCyclic) and "seed" in described:
        assert make({**described, "seed": 6}).describe()["digest"] != described["digest"]
