import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from orchestrate.core import ArtifactError
from orchestrate.core.training.checkpoint import load_state, load_weights, save_state, save_weights


class Tied(nn.Module):
    """Two layers with one weight, and a buffer."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(3)


def test_state_comes_back_as_it_went(tmp_path):
    state = {"a": torch.randn(3, dtype=torch.float64), "b": [1, 2.5, "x", None], "c": {"d": True}}
    save_state(state, tmp_path / "new" / "state.pt")
    back = load_state(tmp_path / "new" / "state.pt")
    assert torch.equal(back.pop("a"), state["a"])
    assert back == {"b": [1, 2.5, "x", None], "c": {"d": True}}


@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "other"])
def test_what_cant_be_read_is_an_artifact_error(tmp_path, damage):
    path = tmp_path / "state.pt"
    if damage != "missing":
        save_state({"a": torch.zeros(1000)}, path)
    if damage in ("truncated", "empty"):
        path.write_bytes(path.read_bytes()[: 500 if damage == "truncated" else 0])
    if damage == "other":
        path.write_text("hello, world")
    with pytest.raises(ArtifactError, match=r"state\.pt"):
        load_state(path)


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write", [torch.save, lambda data, path: path.write_bytes(pickle.dumps(data))])
def test_a_checkpoint_runs_no_code(tmp_path, write):
    write({"a": Bomb(tmp_path / "boom")}, tmp_path / "state.pt")
    with pytest.raises(ArtifactError):
        load_state(tmp_path / "state.pt")
    assert not (tmp_path / "boom").exists()


def test_a_crash_while_writing_leaves_the_former_state(tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    save_state({"epoch": 1}, path)

    def fails(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="no space"):
        save_state({"epoch": 2}, path)
    assert load_state(path) == {"epoch": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.pt"]


def test_weights_with_shared_tensors_come_back(tmp_path):
    torch.manual_seed(0)
    source, target = Tied(), Tied()
    source.norm.running_mean.fill_(3)
    save_weights(source, tmp_path / "weights")
    load_weights(target, tmp_path / "weights")
    assert all(torch.equal(tensor, target.state_dict()[name]) for name, tensor in source.state_dict().items())
    assert target.second.weight is target.first.weight


def test_weights_of_another_network_are_refused(tmp_path):
    save_weights(nn.Linear(3, 3), tmp_path / "weights")
    for other in (nn.Linear(3, 4), nn.Conv2d(1, 1, 1), Tied()):
        with pytest.raises(ArtifactError, match="can't load the weights"):
            load_weights(other, tmp_path / "weights")
    with pytest.raises(ArtifactError):
        load_weights(nn.Linear(3, 3), tmp_path / "nothing")
