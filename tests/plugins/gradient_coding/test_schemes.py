"""Schemes: over every state they reach, jobs decode in time, to the whole gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrate.plugins.gradient_coding.codes import CyclicMDS, RandomCyclic
from orchestrate.plugins.gradient_coding.schemes import (
    BackupWorkers,
    GradientCoding,
    Multiplexed,
    Part,
    Scheme,
    SelectiveRepetition,
    Uncoded,
    cut,
)
from orchestrate.plugins.gradient_coding.stragglers import (
    Arbitrary,
    Bursty,
    BurstyOrPerRound,
    Model,
    PerRound,
    Window,
)
from orchestrate.plugins.gradient_coding.stragglers.generators import conforming
from tests.plugins.gradient_coding.harness import Lost, Mask, Run, State, explore, masks, only
from tests.plugins.gradient_coding.test_codes import A, B

Make = Callable[[], Scheme]

SEQUENTIAL: dict[str, Make] = {
    "sr 3,1,2,2": lambda: SelectiveRepetition(3, 1, 2, 2),
    "sr 4,1,2,2": lambda: SelectiveRepetition(4, 1, 2, 2),
    "sr 4,1,2,2 by count": lambda: SelectiveRepetition(4, 1, 2, 2, RandomCyclic(4, 1)),
    "sr 4,1,2,4 by count": lambda: SelectiveRepetition(4, 1, 2, 4, RandomCyclic(4, 2)),
    "sr 3,1,3,2": lambda: SelectiveRepetition(3, 1, 3, 2),
    "m 3,1,2,1": lambda: Multiplexed(3, 1, 2, 1),
    "m 3,1,2,2": lambda: Multiplexed(3, 1, 2, 2),
    "m 3,1,2,3": lambda: Multiplexed(3, 1, 2, 3),
    "m 4,1,2,1": lambda: Multiplexed(4, 1, 2, 1),
    "m 4,1,2,2": lambda: Multiplexed(4, 1, 2, 2),
    "m 4,1,2,2 cyclic": lambda: Multiplexed(4, 1, 2, 2, RandomCyclic(4, 2)),
    "m 4,1,2,2 mds": lambda: Multiplexed(4, 1, 2, 3, CyclicMDS(4, 3)),
    "m 4,1,2,3": lambda: Multiplexed(4, 1, 2, 3),
    "m 4,1,2,4": lambda: Multiplexed(4, 1, 2, 4),
    "m 3,2,2,2": lambda: Multiplexed(3, 2, 2, 2),
    "m 3,2,2,3": lambda: Multiplexed(3, 2, 2, 3),
    "m 3,1,3,2": lambda: Multiplexed(3, 1, 3, 2),
    "m 2,2,3,1": lambda: Multiplexed(2, 2, 3, 1),
}
WITHOUT_BUBBLES: dict[str, Make] = {
    "sr 4,2,3,2": lambda: SelectiveRepetition(4, 2, 3, 2),
    "m 3,2,3,1": lambda: Multiplexed(3, 2, 3, 1),
    "m 3,2,3,2": lambda: Multiplexed(3, 2, 3, 2),
}
ALL = {**SEQUENTIAL, **WITHOUT_BUBBLES}


def admits(scheme: Scheme, stragglers: Mask) -> bool:
    return scheme._window.admits(stragglers)


def can_close(scheme: Scheme, stragglers: Mask) -> bool:
    return scheme.feasible(~stragglers)


@pytest.mark.parametrize("name", ALL)
def test_every_conforming_pattern_decodes_in_time_and_never_waits(name: str) -> None:
    for state, stragglers in explore(ALL[name](), admits, model=True, bubbles=name in SEQUENTIAL):
        if admits(state.scheme, stragglers):
            assert state.scheme.feasible(~stragglers)
            assert state.scheme.conforms(~stragglers)
        else:
            assert not state.scheme.conforms(~stragglers)


@pytest.mark.parametrize("name", ALL)
def test_a_round_is_feasible_if_and_only_if_a_perfect_future_saves_every_job(name: str) -> None:
    scheme = ALL[name]()
    for state, stragglers in explore(scheme, can_close, model=False, bubbles=name in SEQUENTIAL):
        assert state.scheme.feasible(np.ones(scheme.n, dtype=bool))
        if not can_close(state.scheme, stragglers):
            assert not saved_by_a_perfect_future(state, stragglers)


def saved_by_a_perfect_future(state: State, stragglers: Mask) -> bool:
    scheme = state.copy().scheme
    scheme.is_open = False
    scheme._close(~stragglers)
    for _ in range(scheme.delay):
        if any(job <= scheme.round - scheme.delay for job in scheme.pending):
            return False
        scheme.assign(False)
        scheme.is_open = False
        scheme._close(np.ones(scheme.n, dtype=bool))
    return not scheme.pending


def test_the_arbitrary_model_is_survived_too() -> None:
    class Other(Multiplexed):
        def __init__(self) -> None:
            super().__init__(3, 2, 3, 2)
            self._window = Arbitrary(2, 4, 2).begin(3)

    for state, stragglers in explore(Other(), admits, model=True, bubbles=False):
        assert state.scheme.feasible(~stragglers) >= admits(state.scheme, stragglers)


def test_gradient_coding_promises_any_s_and_takes_whatever_covers() -> None:
    for make in (lambda: GradientCoding(4, 1), lambda: GradientCoding(4, 1, RandomCyclic(4, 1))):
        for stragglers in masks(4):
            run = Run(make())
            closed = run.round(stragglers)
            assert closed >= (stragglers.sum() <= 1)
            if not closed:
                run.round(None)
            assert run.worst <= 1e-12
            assert list(run.decoded) == [1]
    run = Run(GradientCoding(4, 1))
    assert run.round(only(4, 0, 2))  # two stragglers, one in each group
    assert run.scheme.name == "gc-frc"


# Mutations: each of these mistakes is found by the checks above --------------------------------------


def loses(make: Make, allowed: Callable[[Scheme, Mask], bool] = admits) -> bool:
    try:
        for state, stragglers in explore(make(), allowed, model=True, bubbles=False):
            if allowed(state.scheme, stragglers) and not state.scheme.feasible(~stragglers):
                return True
    except Lost:
        return True
    return False


def test_nothing_is_lost_without_a_mutation() -> None:
    assert not loses(lambda: SelectiveRepetition(4, 1, 2, 2))
    assert not loses(lambda: SelectiveRepetition(4, 1, 3, 3, RandomCyclic(4, 1)))
    assert not loses(lambda: Multiplexed(4, 1, 2, 2, RandomCyclic(4, 2)))
    assert not loses(lambda: Multiplexed(3, 1, 3, 2))


def test_counting_fewer_than_s_is_found() -> None:
    class Mutated(GradientCoding):
        _window = PerRound(1).begin(4)

        def feasible(self, replied: Mask) -> bool:
            return self.n - int(replied.sum()) < self.s

    scheme = Mutated(4, 1)
    scheme.assign()
    assert any(not scheme.feasible(~mask) for mask in masks(4) if scheme._window.admits(mask))


def test_coding_while_own_chunks_are_lost_is_found() -> None:
    class Mutated(Multiplexed):
        def _assign(self, new: bool) -> np.ndarray:
            loads = super()._assign(new)
            for job in self._jobs.values():
                job.again[:] = -1
            return loads

    assert loses(lambda: Mutated(4, 1, 2, 2))


def test_repeating_with_new_weights_is_found() -> None:
    good, bad = (
        Run(SelectiveRepetition(4, 1, 2, 2), weights)
        for weights in (None, lambda part, in_round: in_round if part.slot else part.job)
    )
    for run in (good, bad):
        for stragglers in (only(4, 0, 1), only(4), only(4, 2), only(4)):
            run.round(stragglers)
    assert good.worst == 0
    assert bad.worst > 0


class RepeatAll(SelectiveRepetition):
    def _repeaters(self, got: Mask) -> np.ndarray:
        uncovered = ~self.code.covered(got)[self.code.group_of]
        return np.flatnonzero(~got & uncovered)


def test_letting_a_whole_group_repeat_is_found() -> None:
    assert loses(lambda: RepeatAll(4, 1, 2, 2))
    run = Run(RepeatAll(4, 1, 2, 2))
    closed = [run.round(only(4, *gone)) for gone in ((), (), (0, 1), (), (0, 1))]
    assert closed == [True, True, True, True, False]


class ShortMultiplexed(Multiplexed):
    def __init__(self) -> None:
        super().__init__(3, 1, 3, 2)
        self._window: Window = Bursty(1, 2, 2).begin(3)


class ShortSelective(SelectiveRepetition):
    def __init__(self) -> None:
        super().__init__(4, 1, 3, 3, RandomCyclic(4, 1))
        self._window: Window = BurstyOrPerRound(Bursty(1, 2, 3), self.s).begin(4)


@pytest.mark.parametrize("make", [ShortMultiplexed, ShortSelective])
def test_a_window_off_by_one_is_found(make: Make) -> None:
    assert loses(make)


def test_one_worker_too_many_is_found() -> None:
    class Mutated(Multiplexed):
        def __init__(self) -> None:
            super().__init__(4, 1, 2, 2, RandomCyclic(4, 2))
            self._window: Window = Bursty(1, 2, 3).begin(4)

    assert loses(Mutated)


# Worked examples ---------------------------------------------------------------------------------------


def test_selective_repetition_by_hand() -> None:
    scheme = SelectiveRepetition(4, 1, 2, 2, RandomCyclic(4, 1, H=A))
    assert (scheme.s, scheme.delay, scheme.load) == (1, 1, 0.5)
    run = Run(scheme)
    assert run.round(only(4, 0, 1))
    assert scheme.pending == (1,)
    run.open()
    assert [[(part.job, part.slot) for part in scheme.parts(worker)] for worker in range(4)] == [
        [(1, 1)],
        [(2, 0)],
        [(2, 0)],
        [(2, 0)],
    ]
    assert run.round(None)
    assert list(run.decoded) == [1, 2]
    terms = {(term.worker, term.slot): term.weight for term in run.decoded[1].terms}
    assert terms == pytest.approx({(0, 1): -1, (2, 0): 1, (3, 0): 2 / 3})
    assert run.worst < 1e-12


def test_multiplexed_by_hand() -> None:
    scheme = Multiplexed(4, 1, 2, 2, RandomCyclic(4, 2, H=B))
    assert scheme.fractions.tolist() == pytest.approx([3 / 16] * 4 + [1 / 16] * 4)
    assert (scheme.delay, scheme.load) == (1, pytest.approx(3 / 8))
    run = Run(scheme)
    assert run.round(only(4, 0, 1))
    run.open(new=False)
    assert [part.chunks for worker in range(4) for part in scheme.parts(worker)] == [
        (0,),
        (1,),
        (4, 6, 7),
        (4, 5, 7),
    ]
    assert run.round(None)
    terms = {(term.worker, term.slot): term.weight for term in run.decoded[1].terms}
    assert terms == pytest.approx({(0, 1): 1, (1, 1): 1, (2, 0): 1, (3, 0): 1, (2, 1): 1, (3, 1): 1 / 3})
    assert run.worst < 1e-12


@pytest.mark.parametrize(
    ("gone", "closes"),
    [
        (((0, 1), (0, 1), (), ()), [True, True, True, True]),
        (((0, 1), (0, 1), (2,), ()), [True, True, False]),
        (((0,), (), (0,), (0,)), [True, True, True, False]),
    ],
)
def test_four_slots_by_hand(gone: tuple[tuple[int, ...], ...], closes: list[bool]) -> None:
    scheme = Multiplexed(4, 2, 3, 2, RandomCyclic(4, 2, H=B))
    assert (scheme.delay, scheme.load) == (3, pytest.approx(3 / 8))
    run = Run(scheme)
    found = []
    for index, stragglers in enumerate(gone):
        found.append(run.round(only(4, *stragglers), new=index == 0))
        if not found[-1]:
            break
    assert found == closes
    assert (list(run.decoded) == [1]) == all(closes)


LOADS = [
    # n, B, W, lambda: SR-SGC's s (None: not defined), M-SGC's load with a cyclic code, lower bound
    (4, 1, 2, 2, 1, 3 / 8, 1 / 3),
    (4, 1, 2, 3, 2, 0.4, 0.4),
    (4, 1, 2, 4, 2, 0.5, 0.5),
    (20, 3, 6, 4, None, 1 / 14, 2 / 37),
    (256, 1, 2, 27, 14, 7 / 928, 2 / 485),
    (256, 2, 3, 23, 12, 3 / 400, 2 / 489),
]


@pytest.mark.parametrize(("n", "B", "W", "lam", "s", "load", "bound"), LOADS)
def test_loads(n: int, B: int, W: int, lam: int, s: int | None, load: float, bound: float) -> None:
    code = RandomCyclic(n, lam, draws=1) if lam < n else None
    scheme = Multiplexed(n, B, W, lam, code)
    assert scheme.load == pytest.approx(load)
    assert scheme.fractions.sum() == pytest.approx(1)
    assert (W - 1 + B) / (n * (W - 1) + B * (n - lam)) == pytest.approx(bound)
    assert scheme.load >= bound - 1e-12
    assert (scheme.load == pytest.approx(bound)) == (lam >= n - 1)
    binary = Multiplexed(n, B, W, lam)
    assert load - 1e-12 <= binary.load <= 1.15 * load
    if s is None:
        with pytest.raises(ValueError, match="divides W - 1"):
            SelectiveRepetition(n, B, W, lam)
    else:
        assert SelectiveRepetition(n, B, W, lam).s == s


def test_loads_in_a_run_are_those_of_the_parts() -> None:
    for scheme in (Multiplexed(4, 2, 3, 2), SelectiveRepetition(6, 1, 2, 3), GradientCoding(7, 2)):
        rng = np.random.default_rng(0)
        for _ in range(12):
            assignment = scheme.assign(bool(rng.random() < 0.8))
            for worker in range(scheme.n):
                parts = scheme.parts(worker)
                load = sum(scheme.fractions[list(part.chunks)].sum() for part in parts)
                assert assignment.loads[worker] == pytest.approx(load)
                assert len(parts) <= scheme.messages
            assert assignment.loads.max() <= scheme.load + 1e-12
            replied = ~assignment.working | (rng.random(scheme.n) < 0.7)
            scheme.close(replied if scheme.feasible(replied) else np.ones(scheme.n, dtype=bool))


# 256 workers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "model"),
    [
        (Multiplexed(256, 1, 2, 27), Bursty(1, 2, 27)),
        (Multiplexed(256, 2, 3, 23), Bursty(2, 3, 23)),
        (Multiplexed(256, 3, 6, 40), Bursty(3, 6, 40)),
        (Multiplexed(256, 2, 5, 200), Bursty(2, 5, 200)),
        (Multiplexed(256, 2, 3, 256), Bursty(2, 3, 256)),
        (SelectiveRepetition(256, 2, 3, 23), Bursty(2, 3, 23)),
        (SelectiveRepetition(256, 1, 2, 200), Bursty(1, 2, 200)),
        (SelectiveRepetition(256, 2, 3, 23, RandomCyclic(256, 12, draws=1)), PerRound(12)),
        (GradientCoding(256, 15), PerRound(15)),
    ],
    ids=repr,
)
def test_dense_conforming_patterns_of_256_workers(scheme: Scheme, model: Model) -> None:
    run = Run(scheme)
    for stragglers in conforming(model, 12, 256, 0.3, np.random.default_rng(1)):
        run.open()
        assert run.scheme.conforms(~stragglers)
        assert run.round(stragglers)
    run.drain()
    assert list(run.decoded) == run.issued
    assert run.worst <= (1e-6 if "PerRound(s=12)" in repr(model) else 0)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([(1, 2), (2, 2), (2, 3), (3, 3)]), st.floats(0, 0.5))
def test_any_raw_pattern_recovers_when_rounds_wait_until_they_are_feasible(
    seed: int, shape: tuple[int, int], density: float
) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 40))
    run = Run(Multiplexed(n, *shape, int(rng.integers(0, n + 1))))
    for _ in range(10):
        run.open(bool(rng.random() < 0.9))
        stragglers = rng.random(n) < density
        while not run.round(stragglers):
            stragglers[rng.choice(np.flatnonzero(stragglers))] = False
    run.drain()
    assert list(run.decoded) == run.issued
    assert run.worst == 0


# Late replies, jobs given up ----------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.booleans())
def test_late_replies_are_banked_and_never_spoil_anything(seed: int, multiplexed: bool) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 9))
    scheme = (
        Multiplexed(n, int(rng.integers(1, 4)), int(rng.integers(2, 4)), int(rng.integers(0, n + 1)))
        if multiplexed
        else SelectiveRepetition(n, 1, 2, int(rng.integers(0, n)))
    )
    run = Run(scheme)
    late: list[tuple[int, Part]] = []
    for _ in range(14):
        run.open(bool(rng.random() < 0.9))
        stragglers = run.working & (rng.random(n) < 0.4)
        parts = {int(worker): scheme.parts(int(worker)) for worker in np.flatnonzero(stragglers)}
        half = len(late) // 2
        for worker, part in late[:half]:
            bank(run, worker, part)
        while not run.round(stragglers):
            stragglers[rng.choice(np.flatnonzero(stragglers))] = False
        for worker, part in late[half:]:
            bank(run, worker, part)
            assert not scheme.bank(worker, part)  # a duplicate
        late = [(worker, part) for worker, sent in parts.items() if stragglers[worker] for part in sent]
    run.drain()
    assert list(run.decoded) == run.issued
    assert run.worst == 0


def bank(run: Run, worker: int, part: Part) -> bool:
    taken = run.scheme.bank(worker, part)
    if taken:
        run.send(worker, part)
    return taken


def test_a_banked_reply_spares_the_repetition() -> None:
    scheme = Multiplexed(4, 1, 2, 2)
    run = Run(scheme)
    run.open()
    late = scheme.parts(0)
    run.round(only(4, 0))
    assert bank(run, 0, late[0])
    run.open(new=False)
    assert scheme.parts(0)[0].chunks[0] >= 4  # a coded task, as of those who owe nothing
    run.round(None)
    assert list(run.decoded) == [1]


def test_half_a_reply_counts_for_what_it_is() -> None:
    """A slow worker's first mini-task has come in when its round closes without the second."""
    scheme = Multiplexed(3, 2, 2, 3)
    run = Run(scheme)
    run.round(only(3))
    run.open()
    first = scheme.parts(0)[0]
    assert bank(run, 0, first) == (first.job == 2)
    assert run.round(only(3, 0))
    run.drain()
    assert run.worst == 0


@pytest.mark.parametrize("name", ["sr 4,1,2,2", "m 4,1,2,2", "m 3,2,2,2"])
def test_a_job_that_is_given_up_leaves_the_others_alone(name: str) -> None:
    scheme = SEQUENTIAL[name]()
    run = Run(scheme)
    run.round(only(scheme.n, 0))
    run.round(None)
    for job in scheme.pending:
        scheme.discard(job)
        run.issued.remove(job)
    run.round(only(scheme.n, 1))
    run.drain()
    assert list(run.decoded) == run.issued
    with pytest.raises(KeyError):
        scheme.decode(1)


# Peers, and mistakes ----------------------------------------------------------------------------------


def test_uncoded_waits_for_everyone() -> None:
    scheme = Uncoded(4)
    assert (scheme.load, scheme.delay) == (0.25, 0)
    scheme.assign()
    assert [scheme.feasible(~mask) for mask in masks(4)] == [not mask.any() for mask in masks(4)]


def test_backup_workers_drop_what_is_late() -> None:
    scheme = BackupWorkers(4, 1)
    scheme.assign()
    assert not scheme.feasible(~only(4, 0, 1))
    assert scheme.close(~only(4, 2)).decodable == (1,)
    decoding = scheme.decode(1)
    assert not decoding.exact
    assert {term.worker: term.weight for term in decoding.terms} == pytest.approx(
        {0: 4 / 3, 1: 4 / 3, 3: 4 / 3}
    )


def test_a_round_is_closed_before_the_next_and_not_too_early() -> None:
    scheme = GradientCoding(4, 1)
    with pytest.raises(RuntimeError, match="no round is open"):
        scheme.close(~only(4))
    scheme.assign()
    with pytest.raises(RuntimeError, match="close it first"):
        scheme.assign()
    with pytest.raises(RuntimeError, match="can't close yet"):
        scheme.close(only(4, 0, 1))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SelectiveRepetition(4, 2, 4, 2), "divides W - 1"),
        (lambda: SelectiveRepetition(4, 1, 2, 5), "SR-SGC needs 0 <= lambda"),
        (lambda: Multiplexed(4, 0, 2, 2), "B >= 1"),
        (lambda: Multiplexed(4, 1, 1, 2), "W >= 2"),
        (lambda: Multiplexed(4, 1, 2, 5), "M-SGC needs 0 <= lambda"),
        (lambda: BackupWorkers(4, 4), "can't be spare"),
    ],
)
def test_impossible_parameters(make: Make, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=30), st.integers(0, 5000))
def test_chunks_share_out_every_sample(weights: list[float], samples: int) -> None:
    fractions = np.array(weights) / sum(weights)
    chunks = cut(fractions, samples)
    assert [position for chunk in chunks for position in chunk] == list(range(samples))
    for chunk, fraction in zip(chunks, fractions, strict=True):
        assert abs(len(chunk) - fraction * samples) <= 1


def test_tiny_chunks_may_be_empty() -> None:
    scheme = Multiplexed(256, 1, 2, 27, RandomCyclic(256, 27, draws=1))
    sizes = [len(chunk) for chunk in cut(scheme.fractions, 4096)]
    assert {15, 16} == set(sizes[:256])
    assert 0 in sizes[256:]
    assert sum(sizes) == 4096
