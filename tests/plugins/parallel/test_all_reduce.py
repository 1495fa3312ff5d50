import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from orchestrate.core import local_gradient
from orchestrate.core.registry import Registry, Source
from orchestrate.core.testing.plugins import check_class
from orchestrate.plugins import parallel
from orchestrate.plugins.parallel.all_reduce import AllReduce, AllReduceOptions

ROOT = Path(__file__).parents[3]


class Learner:
    """Least squares in double precision, by a network with frozen, unused and half-used parts."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = nn.ModuleDict(
            {
                "frozen": nn.Linear(3, 3).requires_grad_(False),
                "body": nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)),
                "rare": nn.Linear(3, 1),
                "unused": nn.Linear(3, 1),
            }
        ).double()
        self.inputs = torch.randn(50, 3, dtype=torch.float64)

    def loss_sum(self, samples):
        inputs = self.inputs[samples]
        total = (self.model["body"](self.model["frozen"](inputs)) ** 2).sum()
        first = inputs[samples == 0]
        if len(first):  # so that one rank at most uses it
            total = total + self.model["rare"](first).sum()
        return total


class Alone:
    rank, size = 0, 1

    def all_reduce(self, tensor):
        pass

    def all_gather(self, tensor):
        return [tensor]


class Group:
    """`core.groups.Collective` over gloo."""

    def __init__(self, rank, size, folder):
        import torch.distributed as dist

        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
        self._dist, self.rank, self.size = dist, rank, size
        self.messages = 0

    def all_reduce(self, tensor):
        self.messages += 1
        self._dist.all_reduce(tensor)


BATCHES = [list(range(10)), list(range(7)), [4, 0, 9], [3], [0], list(range(49, -1, -1))]


def rank_main(rank, size, folder):
    """What one process does: a gradient a batch, twice over, and its numbers to a file."""
    torch.set_num_threads(1)
    group = Group(rank, size, folder)
    learner, results = Learner(), []
    for bucket_mb in (25, 1e-4):
        strategy = AllReduce(AllReduceOptions(bucket_mb=bucket_mb))
        for batch in BATCHES:
            loss = strategy.gradient(learner, torch.tensor(batch), group)
            grads = {name: parameter.grad for name, parameter in learner.model.named_parameters()}
            results.append({"loss": loss, "grads": grads, "messages": group.messages})
            group.messages = 0
    torch.save(results, f"{folder}/rank{rank}.pt")
    group._dist.destroy_process_group()


def test_ranks_get_the_gradient_of_one_process(tmp_path):
    size = 3
    code = (
        "from tests.plugins.parallel.test_all_reduce import rank_main; "
        f"rank_main({{}}, {size}, {str(tmp_path)!r})"
    )
    ranks = [subprocess.Popen([sys.executable, "-c", code.format(rank)], cwd=ROOT) for rank in range(size)]
    assert [process.wait(timeout=60) for process in ranks] == [0] * size
    learner = Learner()
    for rank in range(size):
        results = torch.load(tmp_path / f"rank{rank}.pt")
        assert len(results) == 2 * len(BATCHES)
        assert {result["messages"] for result in results[: len(BATCHES)]} == {2}
        assert min(result["messages"] for result in results[len(BATCHES) :]) > 2
        for batch, result in zip(BATCHES * 2, results, strict=True):
            loss = local_gradient(learner, torch.tensor(batch))
            assert result["loss"] == pytest.approx(loss, rel=1e-10)
            for name, parameter in learner.model.named_parameters():
                if parameter.grad is None:
                    assert result["grads"][name] is None
                else:
                    difference = (result["grads"][name] - parameter.grad).abs().max()
                    assert difference < 1e-10


def test_a_group_of_one_is_a_backward_pass():
    learner, samples = Learner(), torch.arange(9)
    loss = AllReduce().gradient(learner, samples, Alone())
    grads = {name: parameter.grad for name, parameter in learner.model.named_parameters()}
    assert loss == pytest.approx(local_gradient(learner, samples))
    for name, parameter in learner.model.named_parameters():
        if parameter.grad is None:
            assert grads[name] is None
        else:
            assert torch.allclose(grads[name], parameter.grad, atol=1e-12)


def test_gradients_of_an_earlier_step_are_gone():
    learner, samples = Learner(), torch.arange(1, 5)
    AllReduce().gradient(learner, torch.arange(5), Alone())
    assert learner.model["rare"].weight.grad is not None
    AllReduce().gradient(learner, samples, Alone())
    assert learner.model["rare"].weight.grad is None


def test_parameters_of_several_types_travel_apart():
    class Mixed:
        model = nn.ParameterList([torch.ones(2), torch.ones(3, dtype=torch.float64), torch.ones(1)])

        def loss_sum(self, samples):
            return sum(each.double().sum() * len(samples) for each in self.model)

    AllReduce().gradient(Mixed(), torch.arange(4), Alone())
    assert [each.grad.dtype for each in Mixed.model] == [
        torch.float32,
        torch.float64,
        torch.float32,
    ]
    assert all((each.grad == 1).all() for each in Mixed.model)


def test_the_hook_gives_the_strategy():
    source = Source("parallel", "orchestrate.plugins.parallel", "here", "0")
    registry = Registry([(source, lambda: parallel)])
    assert not registry.failures
    assert registry.get("parallel strategy", "all-reduce").plugin is AllReduce


def test_the_contract_of_plugins():
    check_class(AllReduce)
