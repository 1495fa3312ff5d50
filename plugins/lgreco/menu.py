"""What a layer may be compressed by: the settings of one or several families, with errors and costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .families import Family


@dataclass(frozen=True)
class Range:
    """A family with the settings that layers may have: from `low` to `high` times the reference."""

    family: Family
    reference: float
    low: float
    high: float

    def multiple(self, shape: Sequence[int], of_reference: float) -> float:
        """The setting that is this multiple of the reference, as a layer of this shape bears it."""
        return self.family.clamp(shape, self.family.scaled(self.reference, of_reference))


@dataclass(frozen=True)
class Menu:
    """A layer's settings, each of a family; `reference` is the index of the uniform compressor's."""

    shape: tuple[int, ...]
    entries: tuple[tuple[Family, float], ...]
    reference: int
    first: Range

    @classmethod
    def of(cls, shape: Sequence[int], ranges: Sequence[Range], extra: Sequence[float] = ()) -> Menu:
        """Collect a layer's settings. The first range has the reference, and the `extra` settings too,
        given as multiples of it.
        """
        first = ranges[0]
        added = {first.multiple(shape, each) for each in extra}
        entries = [
            (one.family, setting)
            for one in ranges
            for setting in sorted(
                {*one.family.settings(shape, one.reference, one.low, one.high)}
                | (added if one is first else set())
            )
        ]
        reference = entries.index((first.family, first.family.clamp(shape, first.reference)))
        return cls(tuple(shape), tuple(entries), reference, first)

    @property
    def runs(self) -> list[tuple[Family, list[float]]]:
        """The entries, in their order, by family."""
        found: dict[Family, list[float]] = {}
        for family, setting in self.entries:
            found.setdefault(family, []).append(setting)
        return list(found.items())

    def errors(self, gradient: Tensor) -> Tensor:
        """Norms of what each setting leaves out of `gradient`, float64 (K,) on the CPU."""
        return torch.cat([family.errors(gradient, settings) for family, settings in self.runs])

    def wire_bytes(self, ranks: int) -> list[float]:
        """Bytes that one rank sends by each setting."""
        return [family.wire_bytes(self.shape, setting, ranks) for family, setting in self.entries]

    def multiple(self, of_reference: float) -> int:
        """Index of the reference's multiple, one of the `extra` settings."""
        return self.entries.index((self.first.family, self.first.multiple(self.shape, of_reference)))
