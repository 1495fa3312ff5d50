"""What a network's key sees, and what it doesn't."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from orchestrate.core import NetworkProbe
from orchestrate.plugins.functional_hash.network import NetworkSettings, probe_network
from orchestrate.plugins.functional_hash.signature import Signature, keyed

SHAPE = (4, 6, 6)
Make = Callable[[], nn.Module]


def signature(make: Make, **settings: object) -> Signature:
    return probe_network(NetworkProbe(make, SHAPE), NetworkSettings(**settings))  # type: ignore[arg-type]


def key(make: Make, **settings: object) -> str:
    return keyed("", signature(make, **settings).values, 1e-6)[0]


class Sum(nn.Module):
    """The sum of its parts, computed and made in any order."""

    def __init__(self, *parts: nn.Module, order: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.order = order or tuple(range(len(parts)))

    def forward(self, inputs: Tensor) -> Tensor:
        total = torch.zeros_like(inputs)
        for index in self.order:
            total = total + self.parts[index](inputs)
        return total


def conv(size: int = 3, **options: object) -> nn.Conv2d:
    return nn.Conv2d(4, 4, size, padding=size // 2, **options)  # type: ignore[arg-type]


def seq(*parts: nn.Module) -> nn.Sequential:
    return nn.Sequential(*parts)


class Scaled(nn.Module):
    """`scale` times its part: a gate, drawn or zero at first."""

    def __init__(self, part: nn.Module, scale: float, *, learned: bool = True) -> None:
        super().__init__()
        self.part = part
        self.scale = nn.Parameter(torch.full((1,), scale)) if learned else scale

    def forward(self, inputs: Tensor) -> Tensor:
        return self.scale * self.part(inputs)


class Twice(nn.Module):
    """One part, used twice."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, inputs: Tensor) -> Tensor:
        return self.part(inputs) + self.part(inputs)


class Dead(nn.Module):
    """Its part, and another whose outputs nobody uses."""

    def __init__(self, part: nn.Module, unused: nn.Module) -> None:
        super().__init__()
        self.unused, self.part = unused, part

    def forward(self, inputs: Tensor) -> Tensor:
        self.unused(inputs)
        return self.part(inputs)


EQUAL: dict[str, tuple[Make, Make]] = {
    "operands": (lambda: Sum(conv(1), conv(3)), lambda: Sum(conv(3), conv(1))),
    "order of three": (
        lambda: Sum(conv(1), conv(3), nn.ReLU()),
        lambda: Sum(nn.ReLU(), conv(3), conv(1), order=(2, 0, 1)),
    ),
    "siblings": (
        lambda: Sum(seq(conv(3), nn.ReLU()), conv(3), nn.Tanh()),
        lambda: Sum(nn.Tanh(), conv(3), seq(conv(3), nn.ReLU())),
    ),
    "identity": (lambda: seq(conv()), lambda: seq(nn.Identity(), conv(), nn.Identity())),
    "nesting": (lambda: seq(conv(), nn.ReLU(), conv(1)), lambda: seq(seq(conv(), nn.ReLU()), seq(conv(1)))),
    "times one": (conv, lambda: Scaled(conv(), 1.0, learned=False)),
    "double negation": (
        conv,
        lambda: Scaled(Scaled(conv(), -1.0, learned=False), -1.0, learned=False),
    ),
    "dead": (conv, lambda: Dead(conv(), conv())),
    "plus nothing": (lambda: Sum(conv()), lambda: Sum(conv(), Scaled(conv(), 0.0, learned=False))),
    "dropout of nothing": (conv, lambda: seq(conv(), nn.Dropout(0.0))),
    "relu twice": (lambda: seq(conv(), nn.ReLU()), lambda: seq(conv(), nn.ReLU(), nn.ReLU())),
}

DIFFERENT: dict[str, tuple[Make, Make]] = {
    "operation": (lambda: seq(conv(), nn.ReLU()), lambda: seq(conv(), nn.LeakyReLU())),
    "a slope of 1e-5": (lambda: seq(conv(), nn.ReLU()), lambda: seq(conv(), nn.LeakyReLU(1e-5))),
    "dropout": (lambda: seq(conv(), nn.Dropout(0.1)), lambda: seq(conv(), nn.Dropout(0.2))),
    "no dropout": (conv, lambda: seq(conv(), nn.Dropout(0.1))),
    "no normalisation": (conv, lambda: seq(conv(), nn.BatchNorm2d(4))),
    "momentum": (
        lambda: seq(conv(), nn.BatchNorm2d(4)),
        lambda: seq(conv(), nn.BatchNorm2d(4, momentum=0.2)),
    ),
    "no shift": (
        lambda: seq(conv(), nn.BatchNorm2d(4), nn.ReLU()),
        lambda: seq(conv(), nn.BatchNorm2d(4, affine=False), nn.ReLU()),
    ),
    "pooling": (lambda: seq(conv(), nn.MaxPool2d(2)), lambda: seq(conv(), nn.AvgPool2d(2))),
    "padding": (
        lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=True),
    ),
    "one module twice": (lambda: Twice(conv()), lambda: Sum(conv(), conv())),
    "a gate that starts closed": (nn.ReLU, lambda: Sum(nn.ReLU(), Scaled(conv(), 0.0))),
    "frozen, one module twice": (lambda: Twice(_still(conv())), lambda: Sum(_still(conv()), _still(conv()))),
    "no gradient, one module twice": (
        lambda: seq(Twice(conv()), Steps()),
        lambda: seq(Sum(conv(), conv()), Steps()),
    ),
    "frozen": (conv, lambda: _still(conv())),
    "a bias": (conv, lambda: conv(bias=False)),
    "outputs swapped": (lambda: seq(conv()), lambda: seq(conv(), nn.ChannelShuffle(2))),
    "initialisation": (conv, lambda: _quiet(conv())),
}


class Steps(nn.Module):
    """A part without a gradient."""

    def forward(self, inputs: Tensor) -> Tensor:
        return (4 * inputs).round() / 4


def _still(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False)


def _quiet(module: nn.Conv2d) -> nn.Module:
    nn.init.normal_(module.weight, std=0.01)
    return module


@pytest.mark.parametrize("pair", EQUAL.values(), ids=EQUAL.keys())
def test_equal(pair: tuple[Make, Make]) -> None:
    one, two = map(signature, pair)
    names_one, names_two = keyed("", one.values, 1e-6), keyed("", two.values, 1e-6)
    assert names_one == names_two
    assert one.values == pytest.approx(two.values, abs=1e-9)


@pytest.mark.parametrize("pair", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_different(pair: tuple[Make, Make]) -> None:
    one, two = pair
    assert key(one) != key(two)


def test_fresh_does_not_see_a_gate_that_starts_closed() -> None:
    one, two = DIFFERENT["a gate that starts closed"]
    assert key(one, semantics="fresh", trace=0) == key(two, semantics="fresh", trace=0)


def test_many_siblings_in_any_order() -> None:
    def parts() -> list[nn.Module]:
        return [seq(conv(1), nn.Softplus(beta)) for beta in range(1, 7)]  # 720 orders

    assert key(lambda: Sum(*parts())) == key(lambda: Sum(*reversed(parts())))
    other = [seq(conv(1), nn.Softplus(beta)) for beta in (1, 2, 3, 4, 5, 5)]
    assert key(lambda: Sum(*parts())) != key(lambda: Sum(*other))


def test_attention_whose_weights_are_used_without_a_call() -> None:
    class Attention(nn.Module):
        def __init__(self, heads: int) -> None:
            super().__init__()
            self.spare = nn.Linear(3, 3) if heads == 1 else None
            self.attention = nn.MultiheadAttention(36, heads, batch_first=True)

        def forward(self, inputs: Tensor) -> Tensor:
            tokens = inputs.flatten(2)
            return self.attention(tokens, tokens, tokens)[0]

    assert key(lambda: Attention(2)) == key(lambda: seq(nn.Identity(), Attention(2)))
    assert key(lambda: Attention(2)) != key(lambda: Attention(3))


def test_constant_and_nan() -> None:
    assert signature(lambda: Scaled(conv(), 0.0, learned=False)).token == "constant"
    assert signature(lambda: Scaled(conv(), float("nan"), learned=False)).token == "nan"
    assert signature(lambda: Scaled(conv(), float("inf"), learned=False)).token in {"inf", "nan"}
    assert signature(conv).token is None


def test_nothing_is_left_behind() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    model = seq(conv(), nn.BatchNorm2d(4))
    signature(lambda: model, repetitions=2)
    assert torch.get_default_dtype() == torch.float32
    assert not model[0]._forward_pre_hooks
    torch.manual_seed(3)
    assert torch.equal(before, torch.get_rng_state())


def test_the_noise_is_far_below_the_quantum() -> None:
    found = signature(lambda: seq(conv(), nn.BatchNorm2d(4), nn.ReLU(), conv()), examples=8)
    assert 0 < found.noise < 1e-12


def test_outputs_in_eval_mode_do_not_depend_on_their_company() -> None:
    model = seq(conv(), nn.BatchNorm2d(4)).double()
    model.train()(torch.randn(8, *SHAPE, dtype=torch.float64))
    inputs = torch.randn(4, *SHAPE, dtype=torch.float64)
    padded = torch.cat([inputs, torch.randn(3, *SHAPE, dtype=torch.float64)])
    model.eval()
    assert torch.allclose(model(inputs), model(padded)[:4], atol=1e-12)
