"""L-GreCo on one rank: gradients go out dense, then uniformly compressed, then each layer by a setting of
its own, chosen anew every period (arXiv 2210.17357, section 3).

Everything is keyed by the parameter's name, so that it doesn't matter in which order, or in how many
parts, a step's gradients come.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from ...core import Collective
from ...core.seeds import spawn
from ...core.training.collective import add_up
from .costs import Timed
from .decision import Decision, Planning, decide
from .families import Family, Parcel
from .layer import Layer
from .layer import regrouped as regrouped_layer
from .menu import Menu, Range
from .metering import Metered, all_reduce_bytes
from .record import Record
from .tally import Phase, Tally


@dataclass(frozen=True)
class Rules:
    """What is compressed, how, and when it is decided.

    Args:
        ranges: families of compressors; the first one has the reference setting.
        planning: how settings are chosen.
        start: steps before anything is compressed.
        period: steps from one decision to the next; the first period is uniform.
        window: steps at a period's end whose gradients the decision looks at.
        minimum: entries below which a parameter is sent dense, as all with one dimension are.
        timed: whether seconds are kept low, and not bytes.
    """

    ranges: Sequence[Range]
    planning: Planning
    start: int
    period: int
    window: int
    minimum: int
    timed: bool = False

    def menu(self, shape: Sequence[int], ranks: int) -> Menu | None:
        """What a parameter of this shape may be compressed by; None: it is sent as it is, for it has one
        dimension, or is so small that the reference saves nothing.
        """
        if len(shape) < 2 or math.prod(shape) < self.minimum:
            return None
        menu = Menu.of(shape, self.ranges, self.planning.extra)
        saves = menu.wire_bytes(ranks)[menu.reference] < all_reduce_bytes(4 * math.prod(shape), ranks)
        return menu if saves or ranks == 1 else None


@dataclass
class _Seen:
    """A layer's gradients, errors owed included, added up over a window."""

    total: Tensor
    count: int = 1


@dataclass
class _Step:
    """The step under way."""

    before: dict[str, dict[str, Tensor]] = field(default_factory=dict[str, dict[str, Tensor]])
    inputs: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    finite: bool = True


class Compression:
    """The exchange of one network's gradients. All ranks make the same calls.

    A step is one call of `exchange`, or several with a part of the parameters each, and `end_step`.
    A step with a mean that isn't finite counts for nothing: the errors owed stay as they were.

    Args:
        rules: the rules, the same on all ranks.
        group: the ranks.
        seed: keys all that is random.
    """

    def __init__(self, rules: Rules, group: Collective, seed: int) -> None:
        self._rules = rules
        self._group = Metered(group)
        self._seed = seed
        self._layers: dict[str, Layer] = {}
        self._menus: dict[str, Menu] = {}
        self._choices: dict[str, int] = {}
        self._seen: dict[str, _Seen] = {}
        self._norms: dict[str, float] = {}
        self._timed: Timed | None = None
        self._now = _Step()
        self.step = 0
        self.decisions: list[Decision] = []
        self.tallies = {phase: Tally() for phase in Phase}

    @property
    def phase(self) -> Phase:
        """How the step under way is sent."""
        if self.step < self._rules.start:
            return Phase.DENSE
        return Phase.ADAPTED if self._choices else Phase.UNIFORM

    @property
    def record(self) -> Record:
        """What there is to tell of it."""
        return Record(self._group.size, self.tallies, self.decisions)

    def exchange(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the means over ranks of these parameters' gradients, in their own types."""
        tally = self.tallies[self.phase]
        tally.dense += sum(all_reduce_bytes(each.nbytes, self._group.size) for each in gradients.values())
        with self._tallied(tally):
            means = self._means(gradients)
        self._now.finite &= all(bool(mean.isfinite().all()) for mean in means.values())
        return means

    def _means(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        packed = {name: each for name, each in gradients.items() if self._compressible(name, each)}
        plain = {name: each for name, each in gradients.items() if name not in packed}
        means = dict(zip(plain, add_up(self._group, list(plain.values())), strict=True))
        means = {name: total / self._group.size for name, total in means.items()}
        for name, mean in self._compressed(packed).items():
            means[name] = mean.to(gradients[name].dtype)
        return {name: means[name] for name in gradients}

    def end_step(self, begun: float | None = None) -> None:
        """End the step, which began at `begun` on `time.perf_counter`. Decides, where it is time."""
        rules, tally = self._rules, self.tallies[self.phase]
        now, self._now = self._now, _Step()
        if not now.finite:
            for name, state in now.before.items():
                self._layers[name].load(state)
            now.inputs.clear()
        for name, given in now.inputs.items():
            if name in self._seen:
                seen = self._seen[name]
                seen.total = seen.total.to(given.device) + given  # anew, for those who hold a state
                seen.count += 1
            else:
                self._seen[name] = _Seen(given.clone())
        self.step += 1
        since = self.step - rules.start
        if rules.planning.adapts and since > 0 and since % rules.period == 0 and self._seen:
            with self._tallied(tally):
                self._decide()
        tally.add(None if begun is None else time.perf_counter() - begun)

    @contextmanager
    def _tallied(self, tally: Tally) -> Generator[None]:
        begun, sent = time.perf_counter(), self._group.sent
        yield
        tally.exchanging += time.perf_counter() - begun
        tally.sent += self._group.sent - sent

    def _compressible(self, name: str, gradient: Tensor) -> bool:
        if self.step < self._rules.start:
            return False
        if name not in self._menus:
            menu = self._rules.menu(gradient.shape, self._group.size)
            if menu is None:
                return False
            self._menus[name] = menu
            self._layers[name] = Layer(name, tuple(gradient.shape))
        return True

    def _compressed(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Means of compressed layers: by family, all of its layers in one exchange."""
        rules = self._rules
        watched = (self.step - rules.start) % rules.period >= rules.period - rules.window
        by_family: dict[Family, list[Parcel]] = {}
        for name, gradient in gradients.items():
            layer, menu = self._layers[name], self._menus[name]
            self._now.before[name] = layer.state()
            if watched and rules.planning.adapts:
                self._now.inputs[name] = layer.compensated(gradient)
            family, setting = menu.entries[self._choices.get(name, menu.reference)]
            by_family.setdefault(family, []).append(Parcel(layer, setting, gradient))
        means: dict[str, Tensor] = {}
        seed = spawn(self._seed, self.step)
        for family, parcels in sorted(by_family.items(), key=lambda one: one[0].name):
            found = family.exchange(parcels, self._group, seed)
            means |= {parcel.layer.name: mean for parcel, mean in zip(parcels, found, strict=True)}
        return means

    def _decide(self) -> None:
        seen, self._seen = self._seen, {}
        menus = {name: menu for name, menu in self._menus.items() if name in seen}
        gradients = {name: seen[name].total / seen[name].count for name in menus}
        if self._rules.timed and self._timed is None:
            self._timed = Timed(self._group, next(iter(gradients.values())).device)
        decision, choices, norms = decide(
            self.step, menus, gradients, self._norms, self._rules.planning, self._group, self._timed
        )
        self._choices |= choices
        self._norms |= norms
        self.decisions.append(decision)

    # Checkpoints ----------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What this rank needs to go on from the end of this step."""
        return {
            "step": self.step,
            "layers": {name: layer.state() for name, layer in self._layers.items()},
            "shapes": {name: list(layer.shape) for name, layer in self._layers.items()},
            "choices": dict(self._choices),
            "seen": {name: {"total": one.total, "count": one.count} for name, one in self._seen.items()},
            "norms": dict(self._norms),
            "decisions": [asdict(decision) for decision in self.decisions],
            "tallies": {phase.value: asdict(tally) for phase, tally in self.tallies.items()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave on this rank, under the same rules."""
        self.step = state["step"]
        self._layers, self._menus = {}, {}
        for name, shape in state["shapes"].items():
            self._menus[name] = Menu.of(shape, self._rules.ranges, self._rules.planning.extra)
            self._layers[name] = Layer(name, tuple(shape))
            self._layers[name].load(state["layers"][name])
        self._choices = dict(state["choices"])
        self._seen = {name: _Seen(one["total"], one["count"]) for name, one in state["seen"].items()}
        self._norms = dict(state["norms"])
        self.decisions = [Decision.of(one) for one in state["decisions"]]
        self.tallies = {phase: Tally(**state["tallies"][phase.value]) for phase in Phase}


def regrouped(states: Sequence[Mapping[str, Any]], rank: int) -> dict[str, Any]:
    """The state for a rank of a group of another size, from all ranks' of the old one.

    What is owed stays the same in the mean. Of a window under way an old rank's gradients go on.
    """
    found = dict(states[rank % len(states)])
    found["layers"] = {
        name: regrouped_layer([state["layers"][name] for state in states]) for name in found["layers"]
    }
    return found
