import pytest
import torch
from torch import Tensor, nn

from orchestrate.core.training.bn import calibrating, recalibrate


def data(batches=3, count=8):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(count, 2, 4, 4, generator=generator) * 3 + 1 for _ in range(batches)]


def test_statistics_are_the_batches_average():
    model = nn.Sequential(nn.BatchNorm2d(2))
    model[0].running_mean.fill_(99)
    inputs = data()
    recalibrate(model, inputs)
    means = torch.stack([batch.mean((0, 2, 3)) for batch in inputs])
    variances = torch.stack([batch.transpose(0, 1).flatten(1).var(1, correction=0) for batch in inputs])
    assert torch.allclose(model[0].running_mean, means.mean(0), atol=1e-6)
    assert torch.allclose(model[0].running_var, variances.mean(0), atol=1e-5)


def test_batches_count_by_their_size():
    model = nn.Sequential(nn.BatchNorm2d(2))
    small, large = data(1, 4)[0], data(1, 12)[0] + 2
    recalibrate(model, [small, large])
    mean = (4 * small.mean((0, 2, 3)) + 12 * large.mean((0, 2, 3))) / 16
    assert torch.allclose(model[0].running_mean, mean, atol=1e-6)


def test_the_block_normalises_with_the_batch():
    model = nn.Sequential(nn.BatchNorm2d(2)).eval()
    batch = data(1)[0]
    with torch.no_grad(), calibrating(model):
        output = model(batch)
    assert torch.allclose(output.mean((0, 2, 3)), torch.zeros(2), atol=1e-5)
    assert torch.allclose(model(batch), output, atol=1e-5)


def test_calibrating_twice_changes_nothing():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3))
    recalibrate(model, data())
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recalibrate(model, data())
    assert all(torch.equal(tensor, first[name]) for name, tensor in model.state_dict().items())


class Forked(nn.Module):
    """Has a layer that is never reached, and dropout."""

    def __init__(self):
        super().__init__()
        self.used = nn.BatchNorm2d(2, momentum=0.3)
        self.idle = nn.BatchNorm2d(2)
        self.plain = nn.BatchNorm2d(2, track_running_stats=False)
        self.drop = nn.Dropout(0.9)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.plain(self.used(self.drop(inputs)))


@pytest.mark.parametrize("fails", [False, True])
def test_all_else_is_left_alone(fails):
    model = Forked()
    model.idle.running_mean.fill_(5)
    model.drop.eval()
    generator = torch.random.get_rng_state()

    def inputs():
        yield from data()
        if fails:
            raise OSError("the disk is gone")

    if fails:
        with pytest.raises(OSError, match="disk"):
            recalibrate(model, inputs())
    else:
        recalibrate(model, inputs())
    assert model.idle.running_mean.tolist() == [5, 5]
    assert model.used.momentum == 0.3
    assert model.used.training
    assert not model.drop.training
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert not model.used._forward_hooks
    if fails:
        assert model.used.running_mean.tolist() == [0, 0]
    else:
        assert model.used.running_mean.tolist() == pytest.approx([1, 1], abs=0.3)  # dropout was off
