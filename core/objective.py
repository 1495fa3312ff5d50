"""Objectives: what is optimised or bounded, and when its value becomes known."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from .candidate import Candidate
from .plugin import Kind, OptionsT, Plugin
from .space import SearchSpace
from .task import Shape

if TYPE_CHECKING:
    import torch
    from torch import nn

Direction: TypeAlias = Literal["maximize", "minimize"]


class Objective(Plugin[OptionsT]):
    """A number per candidate. Subclass one of the four below, which say when it is known."""

    kind: ClassVar[Kind] = "objective"
    direction: ClassVar[Direction]
    unit: ClassVar[str] = ""


class StaticObjective(Objective[OptionsT]):
    """Known from the candidate alone, before any launch: parameters, FLOPs.

    Computed in the driver beside the fingerprint, so a candidate that breaks a bound on it is never
    launched, and recomputed for a recalled candidate.
    """

    needs_network: ClassVar[bool] = False
    """Whether it builds the candidate's network, so that the space must have one."""

    @abstractmethod
    def compute(self, candidate: Candidate, space: SearchSpace, shape: Shape) -> float:
        """Compute the value. Deterministic; free to build the network (`space.build`)."""


class ReportedObjective(Objective[OptionsT]):
    """A metric that the program's evaluation reports: accuracy, loss, anything."""

    @property
    @abstractmethod
    def metric(self) -> str:
        """The metric's key in `Evaluation.metrics`."""


class MeasuredObjective(Objective[OptionsT]):
    """Measured on the trial's own device after the program has run: latency, memory."""

    @abstractmethod
    def measure(self, model: nn.Module, shape: Shape, device: torch.device) -> float:
        """Measure `model` (on `device`, in eval mode, inputs of `shape.input`)."""


class CombinedObjective(Objective[OptionsT]):
    """Computed from the job's other objectives, wherever they are all known: a preference as one number.

    It lets a sampler or a scheduler that knows a single objective serve a trade-off. Static as soon as
    all its parts are; recomputed for a recalled candidate.
    """

    @property
    @abstractmethod
    def parts(self) -> tuple[str, ...]:
        """Labels of the objectives it is computed from. None of them is combined itself."""

    @abstractmethod
    def combine(self, values: Mapping[str, float]) -> float:
        """Compute the value from those of the parts, by label. Deterministic."""

    def check(self, goals: Sequence[Goal]) -> None:
        """Refuse goals that this objective's options contradict. The parts are among them.

        Raises:
            SpecError: with the reason.
        """


@dataclass(frozen=True)
class Goal:
    """One objective as a job wants it: its label, sense, bounds and reference point.

    `direction` None means that the objective is not optimised, only bounded or part of a combined one.
    """

    name: str
    direction: Direction | None
    minimum: float | None = None
    maximum: float | None = None
    reference: float | None = None

    def violation(self, value: float) -> float:
        """How far `value` lies outside the bounds: 0 when feasible, in the objective's unit."""
        below = self.minimum - value if self.minimum is not None else 0.0
        above = value - self.maximum if self.maximum is not None else 0.0
        return max(0.0, below, above)
