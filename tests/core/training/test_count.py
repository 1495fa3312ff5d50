import torch
from torch import Tensor, nn

from orchestrate.core.training.count import flops, parameters


def network():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, stride=2, padding=1, groups=4),
        nn.Flatten(),
        nn.Linear(16 * 16, 10),
    )


def test_counts_by_hand():
    model = network()
    assert parameters(model) == 3 * 16 * 9 + 32 + 16 * 4 * 9 + 16 + 256 * 10 + 10
    assert flops(model, (3, 8, 8)) == 2 * (3 * 16 * 9 * 64 + 16 * 4 * 9 * 16 + 256 * 10)
    assert flops(model, (3, 8, 8), batch=5) == 5 * flops(model, (3, 8, 8))


def test_the_network_is_left_as_it_was():
    model = network()
    model[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flops(model, (3, 8, 8))
    assert model.training
    assert not model[1].training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_shared_tensors_count_once():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    assert parameters(model) == 64 + 16
    assert flops(model, (8,)) == 2 * 2 * 64


def test_a_network_on_the_meta_device_is_counted():
    with torch.device("meta"):
        model = network()
    assert flops(model, (3, 8, 8)) == flops(network(), (3, 8, 8))


class Peeking(nn.Module):
    """Looks at values, which a meta tensor hasn't."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) if float(inputs.sum()) == 0 else inputs


def test_a_network_that_looks_at_values_is_run():
    assert flops(Peeking(), (4,)) == 2 * 16


def test_a_network_without_parameters():
    assert parameters(nn.ReLU()) == 0
    assert flops(nn.ReLU(), (4,)) == 0
