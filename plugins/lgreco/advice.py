"""What compression would save a training, told from gradients of some steps without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .costs import Link, Loopback, Timed
from .decision import Decision, decide
from .metering import all_reduce_bytes
from .strategy import LGreco, LGrecoOptions

__all__ = ["Advice", "Cost", "LGrecoOptions", "Link", "advise"]

ALPHAS = (0.5, 1.0, 2.0)
FAMILIES = tuple(LGrecoOptions(family=name) for name in ("powersgd", "topk", "qsgd"))


@dataclass(frozen=True)
class Cost:
    """What exchanging a gradient costs each rank: bytes that it sends, and seconds where a link is known.

    Seconds are of sending, and of compressing as measured on this machine; none are hidden behind
    the backward pass.
    """

    bytes: float
    seconds: float | None = None


@dataclass(frozen=True)
class Advice:
    """What one reference setting would bring: in all layers, and chosen for each within `alpha` times the
    reference's error.

    Errors are what a message leaves out, as a share of the gradient: sums over the layers of their
    norms. With feedback it is sent later.
    """

    family: str
    setting: float
    alpha: float
    dense: Cost
    uniform: Cost
    chosen: Cost
    uniform_error: float
    chosen_error: float
    decision: Decision

    @property
    def pays(self) -> bool:
        """Whether a gradient takes less than without compression: seconds, or else bytes."""
        if self.chosen.seconds is not None and self.dense.seconds is not None:
            return self.chosen.seconds < self.dense.seconds
        return self.chosen.bytes < self.dense.bytes


def advise(
    gradients: Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]],
    ranks: int,
    *,
    options: Sequence[LGrecoOptions] = FAMILIES,
    alphas: Sequence[float] = ALPHAS,
    link: Link | None = None,
) -> list[Advice]:
    """Say what each of these options would bring, for each alpha. Nothing is trained or sent.

    Args:
        gradients: of a rank's share of a batch, by parameter; or of several steps, whose means count.
        ranks: of the group that would exchange them, 2 at least.
        options: the first family's reference is what is told; their own `alpha` is not looked at.
        alphas: errors allowed, as multiples of the reference's.
        link: what both collectives take; None: only bytes are told.

    Returns:
        The advice, by options and alpha; nothing of options that compress no layer.

    Raises:
        ValueError: there are no gradients, or less than two ranks.
    """
    steps = [gradients] if isinstance(gradients, Mapping) else list(gradients)
    if not steps or not steps[0] or ranks < 2:
        raise ValueError(
            f"gradients of {len(steps)} steps, for {ranks} ranks: it takes some of one step, and two ranks"
        )
    means = {name: torch.stack([one[name] for one in steps]).mean(0) for name in steps[0]}
    return [one for each in options for one in _of(each, means, ranks, alphas, link)]


def _of(
    options: LGrecoOptions,
    gradients: Mapping[str, Tensor],
    ranks: int,
    alphas: Sequence[float],
    link: Link | None,
) -> Iterator[Advice]:
    rules = LGreco(options).rules()
    group, device = Loopback(ranks), next(iter(gradients.values())).device
    sizes = {name: all_reduce_bytes(each.nbytes, ranks) for name, each in gradients.items()}
    menus = {name: menu for name, each in gradients.items() if (menu := rules.menu(each.shape, ranks))}
    plain = sum(size for name, size in sizes.items() if name not in menus)
    timed = Timed(group, device, {"all_reduce": link, "all_gather": link}) if link else None

    def cost(choices: Mapping[str, int]) -> Cost:
        chosen = [(menu, choices[name]) for name, menu in menus.items()]
        sent = plain + sum(menu.wire_bytes(ranks)[at] for menu, at in chosen)
        if link is None or timed is None:
            return Cost(sent)
        families = {menu.entries[at][0] for menu, at in chosen}
        messages = sum(family.messages for family in families) + bool(plain)
        return Cost(sent, link.seconds(plain, messages) + sum(timed(menu)[at] for menu, at in chosen) / 1e6)

    whole = sum(sizes.values())
    dense = Cost(whole, link.seconds(whole) if link else None)
    uniform = cost({name: menu.reference for name, menu in menus.items()})
    first = rules.ranges[0]
    for alpha in alphas if menus else ():
        decision, choices, norms = decide(
            0,
            menus,
            {name: gradients[name] for name in menus},
            {},
            replace(rules.planning, alpha=alpha),
            group,
            timed if rules.timed else None,
        )
        total = sum(norms.values()) or 1.0
        yield Advice(
            first.family.name,
            first.reference,
            alpha,
            dense,
            uniform,
            cost(choices),
            sum(one.reference_error * norms[one.layer] for one in decision.layers) / total,
            sum(one.error * norms[one.layer] for one in decision.layers) / total,
            decision,
        )
