"""A parameter's record: views, snapshots, and what becomes of it in a group of another size."""

from __future__ import annotations

import pytest
import torch

from orchestrate.plugins.lgreco.layer import Layer, as_matrix, matrix_shape, regrouped


@pytest.mark.parametrize(
    ("shape", "expected"), [((4, 3, 2, 2), (4, 12)), ((5, 7), (5, 7)), ((6,), (6, 1)), ((), (1, 1))]
)
def test_the_matrix_view(shape, expected):
    tensor = torch.zeros(shape)
    assert as_matrix(tensor).shape == expected == matrix_shape(shape)
    as_matrix(tensor)[0, 0] = 1
    assert tensor.sum() == 1


def test_a_state_is_a_snapshot_of_plain_tensors(tmp_path):
    layer = Layer("w", (2, 3), residual=torch.ones(2, 3), basis=torch.eye(3))
    state = layer.state()
    torch.save(state, tmp_path / "state")
    layer.residual = layer.basis = None
    assert layer.state() == {}
    layer.load(torch.load(tmp_path / "state", weights_only=True))
    assert torch.equal(layer.residual, torch.ones(2, 3))
    assert torch.equal(layer.basis, torch.eye(3))
    layer.load({})
    assert layer.residual is None
    with pytest.raises(ValueError, match=r"'w' has shape \(3, 2\), the parameter \(2, 3\)"):
        layer.load({"residual": torch.ones(3, 2)})


def test_compensation():
    layer = Layer("w", (2,))
    gradient = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    assert layer.compensated(gradient).dtype == torch.float32
    layer.residual = torch.tensor([0.5, -2.0])
    found = layer.compensated(gradient)
    assert found.tolist() == [1.5, 0.0]
    assert not found.requires_grad


def test_another_group_has_as_much_to_send():
    states = [{"residual": torch.tensor([3.0]), "basis": torch.eye(1)}, {"basis": torch.eye(1)}, {}]
    found = regrouped(states)
    assert found["residual"].tolist() == [1.0]
    assert torch.equal(found["basis"], torch.eye(1))
    assert regrouped([{}, {}]) == {}
