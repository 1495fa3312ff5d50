"""What the steps of a training cost, by how gradients were sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

KEPT = 200  # steps whose seconds are kept, the last ones of each phase


class Phase(StrEnum):
    """How compressible layers are sent."""

    DENSE = "dense"
    UNIFORM = "uniform"
    ADAPTED = "adapted"


@dataclass
class Tally:
    """What steps of one phase took, on this rank."""

    steps: int = 0
    sent: float = 0.0
    """Bytes of gradients and of statistics, as a ring sends them."""
    dense: float = 0.0
    """Bytes that these gradients would have been without compression."""
    exchanging: float = 0.0
    """Seconds of compressing, sending and deciding."""
    seconds: list[float] = field(default_factory=list[float])
    """Of the last steps, each with its computing and all else."""

    def add(self, seconds: float | None) -> None:
        """Count a step, which took so long; None: unknown."""
        self.steps += 1
        if seconds is not None:
            self.seconds = [*self.seconds[-(KEPT - 1) :], seconds]
