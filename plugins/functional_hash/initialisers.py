"""How a network's parameters are drawn: noted while it is built, and drawn again by another key.

Building draws from one generator in the order of the modules, which two writings of one network don't
share. So the *recipe* of each parameter is noted (`uniform_(-b, b)`, `zeros_`, …), and followed again
with numbers that depend on what the parameter is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from .numbers import normals, uniforms
from .tensors import tensor_of

Step = tuple[str, tuple[float, ...]]

CONSTANT = {"aten::zero_", "aten::fill_"}
RANDOM = {"aten::uniform_": (0.0, 1.0), "aten::normal_": (0.0, 1.0)}
ELEMENTWISE = {
    "aten::mul_",
    "aten::add_",
    "aten::div_",
    "aten::sub_",
    "aten::erfinv_",
    "aten::clamp_",
    "aten::neg_",
}
MADE = {
    "aten::empty": (),
    "aten::zeros": (("aten::zero_", ()),),
    "aten::ones": (("aten::fill_", (1.0,)),),
    "aten::rand": (("aten::uniform_", (0.0, 1.0)),),
    "aten::randn": (("aten::normal_", (0.0, 1.0)),),
}


@dataclass(frozen=True)
class Recipe:
    """The steps that drew one parameter, or None where they can't be followed: it keeps its values."""

    steps: tuple[Step, ...] | None

    def draw(self, parameter: Tensor, seed: int) -> None:
        """Draw the parameter anew, in place, with numbers that depend on `seed` alone."""
        if self.steps is None:
            return
        for number, (name, given) in enumerate(self.steps):
            if name == "aten::uniform_":
                low, high = given
                drawn = low + (high - low) * uniforms(parameter.numel(), seed + number)
                parameter.copy_(tensor_of(drawn, parameter.shape))
            elif name == "aten::normal_":
                mean, deviation = given
                drawn = mean + deviation * normals(parameter.numel(), seed + number)
                parameter.copy_(tensor_of(drawn, parameter.shape))
            else:
                getattr(parameter, name.removeprefix("aten::"))(*given)


class _Notes(TorchDispatchMode):
    """Notes what is done in place to each storage, from its making on."""

    def __init__(self) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.steps: dict[int, list[Step] | None] = {}
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name: str = func._schema.name  # noqa: SLF001 - an operator has no public name
        if name in MADE:
            self._made(result, list(MADE[name]))
        elif name.endswith("_") and args and isinstance(args[0], Tensor):
            self._changed(name, args[0], args[1:], kwargs or {})
        elif isinstance(result, Tensor) and not any(isinstance(argument, Tensor) for argument in args):
            self._made(result, None)
        return result

    def _made(self, tensor: Tensor, steps: list[Step] | None) -> None:
        at = tensor.untyped_storage().data_ptr()
        self.steps[at], self.sizes[at] = steps, tensor.numel()

    def _changed(self, name: str, tensor: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        at = tensor.untyped_storage().data_ptr()
        known = name in CONSTANT or name in RANDOM or name in ELEMENTWISE
        plain = all(isinstance(value, int | float) for value in args)
        options = {key for key, value in kwargs.items() if key != "generator" and value is not None}
        whole = tensor.numel() == self.sizes.get(at)
        if not (known and plain and whole) or options:
            self.steps[at] = None
            return
        given = tuple(float(value) for value in args)
        if name in RANDOM:
            given += RANDOM[name][len(given) :]
        if name in CONSTANT or name in RANDOM:
            self.steps[at] = [(name, given)]
        elif self.steps.get(at) is not None:
            self.steps[at].append((name, given))  # type: ignore[union-attr]


def build(make: Callable[[], nn.Module]) -> tuple[nn.Module, dict[Tensor, Recipe]]:
    """Build a network from a fixed seed, noting how each parameter is drawn."""
    with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
        torch.default_generator.manual_seed(0)  # not `torch.manual_seed`: it sees to all accelerators
        notes = _Notes()
        with notes:
            model = make()
    recipes: dict[Tensor, Recipe] = {}
    for parameter in model.parameters():
        steps = notes.steps.get(parameter.untyped_storage().data_ptr())
        recipes[parameter] = Recipe(None if steps is None else tuple(steps))
    return model, recipes
