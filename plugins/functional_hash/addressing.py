"""Weights by value: each unit of a network draws its parameters by what reaches it, not by its place.

Two writings of one network name, order and nest their modules differently, so weights drawn in the
order of the modules differ, and so do the outputs. Here a unit's *address* is a digest of its type and
of the values at its input; equal units at equal inputs (siblings) are told apart by ordinals. Which
sibling gets which ordinal is again a matter of naming, so of all orders the one with the smallest
outputs counts. Units that can't move the output take no ordinal.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.instancenorm import _InstanceNorm  # pyright: ignore[reportPrivateUsage]

from .numbers import Floats, centred, project, seed_of
from .signature import marks
from .tensors import flat, numbers_of, tensor_of

SCALE = 1e-6  # smaller inputs are noise around 0
ADDRESS_QUANTUM = 1e-8  # the noise of float64 here is some 1e-15, the smallest real difference some 1e-6

Draw = Callable[[Tensor, str, int], None]
"""Draws a parameter in place: `draw(parameter, its own name, seed)`."""


@dataclass(eq=False)
class Unit:
    """A module that owns parameters, or draws random numbers while training."""

    module: nn.Module
    kind: str
    parameters: list[tuple[str, nn.Parameter]]
    random: bool
    address: bytes = b""
    identity: int | None = None
    """Seed of what it draws, in the current run: None until it is reached."""
    calls: int = 0
    drew: bool = False
    """Whether it was seen to draw random numbers."""


@dataclass
class Addressed:
    """A network whose units are addressed by value in each forward pass while `running`."""

    model: nn.Module
    base: int
    """Seed of the repetition."""
    units: list[Unit] = field(default_factory=list[Unit])
    groups: dict[bytes, list[Unit]] = field(default_factory=dict[bytes, list[Unit]])
    """Siblings of the current run: units by address, in the order of their calls."""

    def __post_init__(self) -> None:
        owned: set[Tensor] = set()
        self._handles: list[Any] = []
        for module in self.model.modules():
            own = [
                (name, parameter)
                for name, parameter in module.named_parameters(recurse=False)
                if parameter not in owned
            ]
            owned.update(parameter for _, parameter in own)
            random = _draws(module)
            if own or random:
                unit = Unit(module, _kind(module, own), own, random)
                self.units.append(unit)
                self._handles.append(module.register_forward_pre_hook(self._enter(unit), with_kwargs=True))
                if random:
                    self._handles.append(module.register_forward_hook(self._leave(unit)))
        self._ordinals: Mapping[Unit, int] | None = None
        self._draw: Draw | None = None
        self._state: Tensor | None = None

    def run(self, inputs: Tensor, draw: Draw, ordinals: Mapping[Unit, int] | None = None) -> Tensor:
        """Forward pass in which each unit is addressed and drawn when it is first reached.

        Args:
            inputs: a batch.
            draw: draws a parameter.
            ordinals: of units among their siblings; by default they are numbered as they are called.
                A unit without one can't move the output.

        Returns:
            All outputs, flattened to one dimension.
        """
        self.groups.clear()
        for unit in self.units:
            unit.identity, unit.calls = None, 0
        self._draw, self._ordinals = draw, ordinals
        try:
            outputs = flat(self.model(inputs))
        finally:
            self._draw = None
        return self.run(inputs, draw, ordinals) if self._adopted() else outputs

    def close(self) -> None:
        """Take the hooks off the network."""
        for handle in self._handles:
            handle.remove()

    def again(self, inputs: Tensor) -> Tensor:
        """Forward pass with the parameters as they are."""
        for unit in self.units:
            unit.calls = 0
        return flat(self.model(inputs))

    def redraw(self, draw: Draw, units: Iterable[Unit], *salt: str) -> None:
        """Draw the parameters of `units` anew, by the identities that the last `run` gave, and `salt`."""
        with torch.no_grad():
            for unit in units:
                for name, parameter in unit.parameters:
                    if unit.identity is not None:
                        draw(parameter, name, seed_of(unit.identity, name, *salt))

    def _enter(self, unit: Unit) -> Any:
        def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if unit.identity is None and self._draw is not None:
                with torch.no_grad():
                    self._reach(unit, self._draw, args, kwargs)
            if unit.random and unit.module.training:
                key = seed_of(self.base, unit.identity, "random", unit.calls)
                torch.default_generator.manual_seed(key >> 65)
                self._state = torch.get_rng_state()
            unit.calls += 1

        return enter

    def _leave(self, unit: Unit) -> Any:
        def leave(*_: Any) -> None:
            if unit.module.training and not unit.drew and self._state is not None:
                unit.drew = not torch.equal(self._state, torch.get_rng_state())

        return leave

    def _reach(self, unit: Unit, draw: Draw, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        unit.address = _address(unit, args, kwargs)
        siblings = self.groups.setdefault(unit.address, [])
        ordinal = len(siblings) if self._ordinals is None else self._ordinals.get(unit, -1)
        siblings.append(unit)
        unit.identity = seed_of(self.base, unit.address, ordinal)
        for name, parameter in unit.parameters:
            draw(parameter, name, seed_of(unit.identity, name))

    def _adopted(self) -> bool:
        """Give parameters that are used without calling their module to the module that has it.

        As `out_proj` of `nn.MultiheadAttention`, whose weight the attention itself applies.
        """
        uncalled = [unit for unit in self.units if unit.identity is None]
        self.units = [unit for unit in self.units if unit.identity is not None]
        found = False
        for unit in uncalled:
            owner, name = _owner(unit.module, self.units)
            if owner is not None and unit.parameters:
                owner.parameters += [(f"{name}.{own}", parameter) for own, parameter in unit.parameters]
                found = True
        return found


def _owner(module: nn.Module, called: Sequence[Unit]) -> tuple[Unit | None, str]:
    """The nearest of the called units that contains `module`, and its name there."""
    found: list[tuple[str, Unit]] = []
    for unit in called:
        found += [(name, unit) for name, child in _submodules(unit.module) if child is module]
    if not found:
        return None, ""
    name, unit = min(found, key=lambda pair: len(pair[0]))
    return unit, name


def _submodules(module: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    return module.named_modules()  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]


Ranks = Sequence[Sequence[Unit]]
"""Siblings in order, but for those of one rank, whose order is open."""


def orders(groups: Sequence[Ranks]) -> Iterator[dict[Unit, int]]:
    """Yield every numbering of siblings that keeps the order of their ranks."""
    ranked = [rank for group in groups for rank in group]
    starts = [
        start for group in groups for start in itertools.accumulate([0, *(len(rank) for rank in group[:-1])])
    ]
    for permuted in itertools.product(*(itertools.permutations(rank) for rank in ranked)):
        yield {
            unit: start + position
            for start, rank in zip(starts, permuted, strict=True)
            for position, unit in enumerate(rank)
        }


def count_orders(groups: Sequence[Ranks]) -> int:
    """How many numberings `orders` yields."""
    return math.prod(math.factorial(len(rank)) for group in groups for rank in group)


def _address(unit: Unit, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    mark = blake2b(unit.kind.encode(), digest_size=16)
    values = [*args, *(kwargs[name] for name in sorted(kwargs))]
    for value in values:
        if isinstance(value, Tensor):
            seen = _normalised(unit.module, value) if unit.parameters else value
            mark.update(repr(tuple(seen.shape)).encode())
            mark.update(marks(_direction(project(numbers_of(seen))), ADDRESS_QUANTUM))
        else:
            mark.update(repr(value).encode() if isinstance(value, int | float | str | None) else b"?")
    return mark.digest()


def _direction(projected: Floats) -> Floats:
    """Forget the scale, which a convolution before a normalisation forgets, too. Noise has none."""
    scale = float(np.max(np.abs(projected), initial=0.0))
    return projected / scale if scale > SCALE else projected


def _normalised(module: nn.Module, values: Tensor) -> Tensor:
    """What the module's own parameters act upon.

    A normalisation layer sees its input only after it was centred and scaled: whatever constant comes
    in, its shift is all that goes out.
    """
    if isinstance(module, _BatchNorm) and module.training:
        return functional.batch_norm(values, None, None, None, None, True, 0.0, module.eps)
    if isinstance(module, nn.LayerNorm):
        return functional.layer_norm(values, list(module.normalized_shape), None, None, module.eps)
    if isinstance(module, nn.GroupNorm):
        return functional.group_norm(values, module.num_groups, None, None, module.eps)
    if isinstance(module, _InstanceNorm):
        return functional.instance_norm(values, eps=module.eps)
    if isinstance(module, nn.RMSNorm):
        return functional.rms_norm(values, list(module.normalized_shape), None, module.eps)
    return values


def _draws(module: nn.Module) -> bool:
    """Whether the module may draw random numbers: dropout, and leaves that aren't torch's own."""
    if isinstance(module, _DropoutNd):
        return True
    own = type(module).__module__.startswith("torch.nn.")
    return not own and next(module.children(), None) is None


def _kind(module: nn.Module, own: Sequence[tuple[str, Tensor]]) -> str:
    shapes = [(name, tuple(parameter.shape)) for name, parameter in own]
    return f"{type(module).__qualname__}({module.extra_repr()}) {shapes}"


def prepare_statistics(model: nn.Module) -> None:
    """Make running statistics those of the last batch, so that eval mode shows what was trained."""
    for module in model.modules():
        if isinstance(module, _NormBase):
            module.momentum = 1.0


def any_value(parameter: Tensor, name: str, seed: int) -> None:
    """Draw a parameter as training might leave it: nothing is zero, and signals keep their scale."""
    drawn = centred(parameter.numel(), seed)
    if parameter.ndim >= 2:
        drawn *= (2.0 * len(parameter) / parameter.numel()) ** 0.5
    elif name.rsplit(".", 1)[-1].endswith("bias"):
        drawn *= 0.5
    else:
        drawn = 1.0 + drawn * 0.25
    parameter.copy_(tensor_of(drawn, parameter.shape))
