import torch
from hypothesis import given
from hypothesis import strategies as st

from orchestrate.core.training.keyed import uniforms

MASK = (1 << 64) - 1


def splitmix(seed: int, number: int) -> int:
    """Output `number` (from 1) of SplitMix64, in Python's exact integers."""
    state = (seed + number * 0x9E3779B97F4A7C15) & MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


@given(key=st.integers(0, MASK), sample=st.integers(0, 10**9), draws=st.integers(1, 6))
def test_numbers_are_splitmix64(key, sample, draws):
    start = splitmix(key, sample)
    expected = [(splitmix(start, draw) >> 40) * 2.0**-24 for draw in range(1, draws + 1)]
    assert uniforms(key, torch.tensor([sample]), draws)[0].tolist() == expected


@given(st.permutations(range(20)))
def test_a_samples_numbers_depend_on_nothing_else(order):
    every = uniforms(7, torch.arange(20), 3)
    assert torch.equal(uniforms(7, torch.tensor(order), 3), every[torch.tensor(order)])
    assert torch.equal(uniforms(7, torch.tensor(order[:5]), 2), every[torch.tensor(order[:5]), :2])


def test_numbers_are_uniform_and_uncorrelated():
    for key in range(5):
        numbers = uniforms(key, torch.arange(20_000), 4).double()
        assert 0 <= numbers.min() < 0.001
        assert 0.999 < numbers.max() < 1
        counts = torch.histc(numbers, bins=16, min=0, max=1)
        # χ² with 15 degrees of freedom: above 50 in one of 80,000 tests.
        assert ((counts - 5000) ** 2 / 5000).sum() < 50
        correlation = torch.corrcoef(numbers.T) - torch.eye(4)
        assert correlation.abs().max() < 0.04
        along = torch.corrcoef(torch.stack([numbers[:-1, 0], numbers[1:, 0]]))[0, 1]
        assert along.abs() < 0.04


def test_keys_differ():
    samples = torch.arange(1000)
    assert (uniforms(1, samples, 1) == uniforms(2, samples, 1)).float().mean() < 0.01
