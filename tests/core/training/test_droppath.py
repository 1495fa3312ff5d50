import pytest
import torch

from orchestrate.core.training.droppath import DropPath


def test_whole_samples_are_dropped_and_the_others_scaled():
    torch.manual_seed(0)
    inputs = torch.ones(5000, 2, 3)
    outputs = DropPath(0.2)(inputs)
    dropped = (outputs == 0).flatten(1).all(1)
    kept = torch.isclose(outputs, torch.tensor(1.25)).flatten(1).all(1)
    assert (dropped ^ kept).all()
    assert 0.17 < dropped.float().mean() < 0.23  # standard deviation 0.006
    assert 0.96 < outputs.mean() < 1.04


def test_it_is_the_identity_when_it_has_nothing_to_do():
    inputs = torch.ones(4, 2)
    assert DropPath(0.0)(inputs) is inputs
    assert DropPath(0.5).eval()(inputs) is inputs


def test_probability_one_is_refused():
    with pytest.raises(ValueError, match="probability < 1"):
        DropPath(1.0)


def test_it_shows_its_probability():
    assert repr(DropPath(0.25)) == "DropPath(probability=0.25)"
