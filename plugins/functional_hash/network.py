"""Probes a network: what it computes with any weights, and how it begins to learn.

In float64, on one thread, on the CPU. The signature holds, for each repetition, projections of the
outputs in train mode and, with the statistics of that batch, in eval mode on another one; then the
losses of the first steps of plain gradient descent from the network's own initialisation.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from ...core.probe import NetworkProbe
from ...core.training.threads import threads
from .addressing import (
    Addressed,
    Draw,
    Unit,
    any_value,
    count_orders,
    orders,
    prepare_statistics,
)
from .initialisers import Recipe, build
from .numbers import Floats, frozen, project, seed_of
from .signature import Signature, smallest, squash, token_of
from .tensors import numbers_of, tensor_of

DEAD = 1e-10  # largest gradient, as a share of the network's largest, of a unit that moves nothing
TIE = 1e-7  # closer outputs, gradients are those of siblings that can be swapped
ORDERS = 24  # numberings of siblings that are tried; beyond, they are ranked by their gradients
RATE = 0.1


@dataclass(frozen=True)
class NetworkSettings:
    """How a network is probed."""

    semantics: Literal["trained", "fresh"] = "trained"
    examples: int = 8
    repetitions: int = 1
    trace: int = 2


def probe_network(probe: NetworkProbe, settings: NetworkSettings) -> Signature:
    """Run the network as the settings say."""
    with _frozen_torch():
        model, recipes = build(probe.build)
        model.double()
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        model.requires_grad_(True)  # frozen weights move the outputs, too
        values: list[float] = []
        names: list[str] = []
        noise, constant = 0.0, True
        for repetition in range(settings.repetitions):
            subject = _Subject(model, recipes, trainable, probe.input, settings, repetition)
            for name, numbers in subject.parts():
                values += numbers.tolist()
                names += [f"repetition {repetition}, {name} {index}" for index in range(len(numbers))]
            noise = max(noise, subject.noise)
            constant = constant and subject.constant
    token = token_of(values) or ("constant" if constant else None)
    return Signature(tuple(values), tuple(names), token, noise)


@contextmanager
def _frozen_torch() -> Generator[None]:
    """Float64 on one thread, with gradients; and torch given back as it was."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with threads(), torch.random.fork_rng(devices=[]), torch.enable_grad():  # pyright: ignore[reportUnknownMemberType]
            yield
    finally:
        torch.set_default_dtype(dtype)


class _Subject:
    """A network in one repetition."""

    def __init__(
        self,
        model: nn.Module,
        recipes: dict[Tensor, Recipe],
        trainable: Sequence[nn.Parameter],
        shape: Sequence[int],
        settings: NetworkSettings,
        repetition: int,
    ) -> None:
        self.base = seed_of("network", repetition)
        self.model = model
        self.settings = settings
        self.noise = 0.0
        self.constant = False
        self._recipes = recipes
        self._network = Addressed(model, self.base)
        self._trainable = trainable
        prepare_statistics(model)
        self._train = self._inputs("train", shape)
        self._valid = self._inputs("valid", shape)

    def parts(self) -> list[tuple[str, Floats]]:
        """The signature's parts by name."""
        self.model.train()
        trained = self._canonical()
        parts = [("train-mode output", trained)]
        with torch.no_grad():
            self._measure_noise(trained)
            self.model.eval()
            outputs = numbers_of(self._network.again(self._valid))
            self.model.train()
        parts.append(("eval-mode output", project(outputs)))
        each = (
            outputs.reshape(len(self._valid), -1) if len(outputs) % len(self._valid) == 0 else outputs[None]
        )
        with np.errstate(invalid="ignore"):
            self.constant = len(each) > 1 and bool(np.all(np.abs(each - each[0]) <= TIE))
        if self.settings.trace:
            parts.append(("loss at step", self._trace()))
        self._network.close()
        return parts

    def _canonical(self) -> Floats:
        """Draw weights by value, siblings in the order that gives the smallest outputs."""
        network, draw = self._network, self._draw()
        outputs = network.run(self._train, draw)
        first = project(numbers_of(outputs))
        groups = [group for group in network.groups.values() if len(group) > 1]
        if not groups:
            return first
        moving = self._moving([unit for group in groups for unit in group], outputs, draw)
        siblings = [[unit for unit in group if unit in moving] for group in groups]
        if not moving:
            return first
        single = {group[0]: 0 for group in network.groups.values() if len(group) == 1}
        ranks = [[group] for group in siblings if group]
        if count_orders(ranks) > ORDERS:
            ranks = self._ranked(siblings, draw)
        numberings = list(orders(ranks)) if count_orders(ranks) <= ORDERS else [next(orders(ranks))]
        with torch.no_grad():
            found = [
                project(numbers_of(network.run(self._train, draw, {**single, **numbering})))
                for numbering in numberings
            ]
            best = smallest(found, TIE)
            if best != len(found) - 1:
                network.run(self._train, draw, {**single, **numberings[best]})
        return found[best]

    def _moving(self, units: Sequence[Unit], outputs: Tensor, draw: Draw) -> set[Unit]:
        """The units that can move the outputs: by their gradients, and where those vanish by trying."""
        gradients = self._gradients(outputs)
        least = DEAD * max(gradients.values(), default=0.0)
        # Not "more than the least": a gradient that is NaN moves the outputs, too.
        moving = {unit for unit in units if unit.drew or not gradients.get(unit, 0.0) <= least}
        still = [unit for unit in units if unit not in moving]
        if not still:
            return moving
        with torch.no_grad():
            self._network.redraw(draw, still, "bumped")
            bumped = numbers_of(self._network.again(self._train))
            self._network.redraw(draw, still)
        before = numbers_of(outputs)
        with np.errstate(invalid="ignore"):
            stays = bool(np.all((np.abs(bumped - before) <= TIE) | (np.isnan(bumped) & np.isnan(before))))
        return moving if stays else moving | set(still)

    def _ranked(self, siblings: Sequence[Sequence[Unit]], draw: Draw) -> list[list[list[Unit]]]:
        """Rank siblings by the gradient that each gets when all of them have the same weights."""
        everywhere = {unit: 0 for group in self._network.groups.values() for unit in group}
        outputs = self._network.run(self._train, draw, everywhere)
        response = self._gradients(outputs, projected=True)
        ranked: list[list[list[Unit]]] = []
        for group in siblings:
            ordered = sorted(group, key=lambda unit: response.get(unit, 0.0))
            ranks: list[list[Unit]] = []
            for unit in ordered:
                last = ranks[-1][-1] if ranks else None
                if last is not None and abs(response.get(unit, 0.0) - response.get(last, 0.0)) <= TIE:
                    ranks[-1].append(unit)
                else:
                    ranks.append([unit])
            ranked.append(ranks)
        return ranked

    def _gradients(self, outputs: Tensor, *, projected: bool = False) -> dict[Unit, float]:
        """Largest entry, or one fixed projection, of the gradient of each unit's parameters."""
        wanted = {parameter: unit for unit in self._network.units for _, parameter in unit.parameters}
        if not wanted or not outputs.requires_grad:
            return {}
        direction = tensor_of(frozen(len(outputs), "gradient"), [-1])
        sizes: dict[Unit, float] = {}
        for parameter, gradient in _gradients(outputs @ direction, list(wanted)):
            unit = wanted[parameter]
            if projected:
                sizes[unit] = sizes.get(unit, 0.0) + float(project(numbers_of(gradient))[0])
            else:
                sizes[unit] = max(sizes.get(unit, 0.0), float(gradient.abs().max()))
        return sizes

    def _draw(self) -> Draw:
        if self.settings.semantics == "trained":
            return any_value
        return self._initial

    def _initial(self, parameter: Tensor, _: str, seed: int) -> None:
        """Draw a parameter as the network itself does."""
        self._recipes[parameter].draw(parameter, seed)

    def _measure_noise(self, trained: Floats) -> None:
        """Compute the same outputs in another order of the batch: what differs is rounding."""
        if any(unit.drew for unit in self._network.units):
            return
        back = torch.arange(len(self._train) - 1, -1, -1)
        outputs = self._network.again(self._train[back])
        if len(outputs) % len(back) == 0:
            again = project(numbers_of(outputs.reshape(len(back), -1)[back]))
            both = np.isfinite(again) & np.isfinite(trained)
            self.noise = float(np.max(np.abs(squash(again[both]) - squash(trained[both])), initial=0.0))

    def _trace(self) -> Floats:
        """Losses before and after each of the first steps of gradient descent."""
        network = self._network
        network.redraw(self._initial, network.units)
        losses: list[float] = []
        for step in range(self.settings.trace + 1):
            last = step == self.settings.trace
            with torch.set_grad_enabled(not last):
                outputs = network.again(self._train)
                goal = tensor_of(frozen(len(outputs), self.base, "goal"), [-1])
                loss = (outputs - goal).square().mean()
            losses.append(float(loss.detach()))
            if last or not self._trainable or not loss.requires_grad:
                continue
            with torch.no_grad():
                for parameter, gradient in _gradients(loss, self._trainable):
                    parameter.sub_(RATE * gradient)
        return np.array(losses)

    def _inputs(self, part: str, shape: Sequence[int]) -> Tensor:
        size = (self.settings.examples, *shape)
        return tensor_of(frozen(math.prod(size), self.base, part), size)


def _gradients(value: Tensor, parameters: Sequence[nn.Parameter]) -> Iterable[tuple[nn.Parameter, Tensor]]:
    """Pair each parameter that `value` depends on with its gradient."""
    found = cast(Sequence[Tensor | None], torch.autograd.grad(value, parameters, allow_unused=True))
    pairs = zip(parameters, found, strict=True)
    return [(parameter, gradient) for parameter, gradient in pairs if gradient is not None]
