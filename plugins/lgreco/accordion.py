"""Accordion: layers whose gradients change quickly are compressed gently, others hard (arXiv 2010.16248)."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Accordion:
    """The rule, for one layer at a time.

    Args:
        gentle: setting of a critical layer, as a multiple of the reference.
        aggressive: setting of the others.
        threshold: relative change of the gradient's norm from which a layer is critical.
    """

    gentle: float = 2.0
    aggressive: float = 0.5
    threshold: float = 0.5

    def multiple(self, norm: float, before: float | None) -> float:
        """A layer's setting, as a multiple of the reference, from its gradient's norm now and `before`.

        A layer of which nothing can be told is critical.
        """
        if not before or not math.isfinite(before) or not abs(norm - before) < self.threshold * before:
            return self.gentle
        return self.aggressive
