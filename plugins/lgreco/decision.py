"""One decision: from gradients to a setting for each layer, the same on all ranks."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ...core import Collective
from .accordion import Accordion
from .costs import Timed
from .menu import Menu
from .planner import Floats, capped, plan

Mode = Literal["l-greco", "accordion", "accordion-l-greco", "uniform"]


@dataclass(frozen=True)
class Planning:
    """How settings are chosen.

    Args:
        mode: "l-greco"; "accordion", which switches each layer between two settings;
            "accordion-l-greco", where those define the budget of error; or "uniform", not at all.
        alpha: budget as a multiple of the uniform compressor's error.
        squared: whether errors are added up as squares.
        cap: largest error of a layer relative to its gradient; None: any.
        buckets: of the dynamic programme.
        accordion: rule of the modes that it names.
    """

    mode: Mode = "l-greco"
    alpha: float = 1.0
    squared: bool = False
    cap: float | None = None
    buckets: int = 10_000
    accordion: Accordion | None = None

    @property
    def adapts(self) -> bool:
        """Whether there is anything to decide."""
        return self.mode != "uniform"

    @property
    def extra(self) -> Sequence[float]:
        """Multiples of the reference that every layer must be able to have."""
        return (self.accordion.gentle, self.accordion.aggressive) if self.accordion else ()


@dataclass(frozen=True)
class Choice:
    """A layer's setting, its error relative to the gradient's norm, and the bytes that a rank sends."""

    layer: str
    shape: list[int]
    family: str
    setting: float
    error: float
    bytes: float
    reference_error: float
    reference_bytes: float


@dataclass(frozen=True)
class Decision:
    """What was decided after `step` steps.

    `budget`, `error` and `uniform_error` are sums over layers in the metric of the planning; `reason`
    says whose the settings are: "dp", "uniform" or "accordion". `seconds` is what deciding took.
    """

    step: int
    reason: str
    budget: float
    error: float
    uniform_error: float
    bytes: float
    uniform_bytes: float
    seconds: float
    layers: list[Choice]

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Decision:
        """Read what `dataclasses.asdict` gave."""
        fields: dict[str, Any] = {**data, "layers": [Choice(**one) for one in data["layers"]]}
        return cls(**fields)


def decide(
    step: int,
    menus: Mapping[str, Menu],
    gradients: Mapping[str, Tensor],
    before: Mapping[str, float],
    planning: Planning,
    group: Collective,
    timed: Timed | None = None,
) -> tuple[Decision, dict[str, int], dict[str, float]]:
    """Choose settings for layers. All ranks call it, each with gradients of its own.

    Errors are measured on each rank and averaged: a rank's own gradient is what TopK and QSGD
    compress, and one rank's would not speak for the others.

    Args:
        step: steps done.
        menus: layers' settings.
        gradients: means over the window of this rank's gradients, errors owed included.
        before: norms of the window before, by layer.
        planning: how to choose.
        group: the ranks.
        timed: what settings cost; None: the bytes that they send.

    Returns:
        The decision, the indices of the settings, and the norms of this window, by layer.
    """
    begun = time.perf_counter()
    power = 2 if planning.squared else 1
    errors, norms = _measured(menus, gradients, power, group)
    costs = [timed(menu) if timed else menu.wire_bytes(group.size) for menu in menus.values()]
    reference = [menu.reference for menu in menus.values()]
    choices, reason = reference, "uniform"
    if (rule := planning.accordion) is not None:
        multiples = [rule.multiple(norm, before.get(name)) for name, norm in norms.items()]
        choices = [menu.multiple(one) for menu, one in zip(menus.values(), multiples, strict=True)]
        reason = "accordion"
    budget = planning.alpha * _total(errors, choices)
    if planning.mode != "accordion":
        allowed = [
            capped(row, norm**power, at, planning.cap**power) if planning.cap else row
            for row, norm, at in zip(errors, norms.values(), choices, strict=True)
        ]
        found = plan(allowed, costs, choices, budget=budget, buckets=planning.buckets)
        choices, reason = found.choices.tolist(), "dp" if found.reason == "dp" else reason
    choices = _agreed(choices, group, next(iter(gradients.values())).device)
    layers = [
        _told(name, menu, row ** (1 / power), norms[name], choice, group.size)
        for (name, menu), row, choice in zip(menus.items(), errors, choices, strict=True)
    ]
    decision = Decision(
        step,
        reason,
        budget,
        _total(errors, choices),
        _total(errors, reference),
        sum(one.bytes for one in layers),
        sum(one.reference_bytes for one in layers),
        time.perf_counter() - begun,
        layers,
    )
    return decision, dict(zip(menus, choices, strict=True)), norms


def _measured(
    menus: Mapping[str, Menu], gradients: Mapping[str, Tensor], power: int, group: Collective
) -> tuple[list[Floats], dict[str, float]]:
    """Means over ranks, to the `power`, of each layer's errors by setting, and its norm itself."""
    rows = [menu.errors(gradients[name]) for name, menu in menus.items()]
    norms = torch.stack([gradients[name].double().square().sum().sqrt().cpu() for name in menus])
    table = torch.cat([*rows, norms]).pow(power).to(next(iter(gradients.values())).device)
    group.all_reduce(table)
    parts: Sequence[Tensor] = torch.split((table / group.size).cpu(), [*map(len, rows), len(norms)])
    means = [float(norm) for norm in parts[-1].pow(1 / power)]
    return [part.numpy() for part in parts[:-1]], dict(zip(menus, means, strict=True))


def _agreed(choices: Sequence[int], group: Collective, device: torch.device) -> list[int]:
    """Rank 0's choices: no rank may differ, not even by a rounding error of its own."""
    return [int(choice) for choice in group.all_gather(torch.tensor(choices, device=device))[0]]


def _total(errors: Sequence[Floats], choices: Sequence[int]) -> float:
    return math.fsum(float(row[choice]) for row, choice in zip(errors, choices, strict=True))


def _told(name: str, menu: Menu, errors: Floats, norm: float, choice: int, ranks: int) -> Choice:
    family, setting = menu.entries[choice]
    sizes = menu.wire_bytes(ranks)
    relative = errors / norm if norm else errors
    return Choice(
        name,
        list(menu.shape),
        family.name,
        setting,
        float(relative[choice]),
        sizes[choice],
        float(relative[menu.reference]),
        sizes[menu.reference],
    )
