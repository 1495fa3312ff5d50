"""Torch has its own number of threads back after a block, whatever happened in it."""

from __future__ import annotations

import pytest
import torch

from orchestrate.core.training.threads import threads


@pytest.mark.parametrize("before", [1, 2])
def test_the_number_is_set_and_given_back(before: int) -> None:
    with threads(before):
        with threads(3):
            assert torch.get_num_threads() == 3
            with threads(None):
                assert torch.get_num_threads() == 3
        assert torch.get_num_threads() == before
        with threads():
            assert torch.get_num_threads() == 1
        with pytest.raises(ZeroDivisionError), threads():
            _ = 1 / 0
        assert torch.get_num_threads() == before
