"""The parallel strategy `l-greco`: its options, and what they make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from ...core import Collective, CollectiveStrategy, Forecast, Learner, PluginOptions

if TYPE_CHECKING:
    from torch import Tensor

    from .compression import Rules
    from .families import Family
    from .menu import Range
    from .session import Session

FamilyName = Literal["powersgd", "topk", "qsgd", "dense"]


class AccordionOptions(PluginOptions):
    """Accordion's two settings, as multiples of the reference, and what decides between them."""

    gentle: PositiveFloat = Field(default=2.0, description="Of a layer whose gradient's norm changes.")
    aggressive: PositiveFloat = Field(default=0.5, description="Of all others.")
    threshold: PositiveFloat = Field(
        default=0.5, description="Relative change of the norm, from a decision to the next, that counts."
    )


class LGrecoOptions(PluginOptions):
    """Options of `l-greco`."""

    family: Literal["powersgd", "topk", "qsgd"] = Field(
        default="powersgd", description="Compressor of the reference setting."
    )
    rank: PositiveInt = Field(default=4, description="Reference of `powersgd`: columns of each factor.")
    density: float = Field(
        default=0.01, gt=0, le=1, description="Reference of `topk`: share of the entries that is sent."
    )
    bits: int = Field(
        default=4, ge=2, le=16, description="Reference of `qsgd`: bits an entry, sign included."
    )
    also: list[FamilyName] = Field(
        default=["dense"],
        description="Further compressors that a layer may have instead; `dense` is none, in single or half "
        "precision.",
    )
    low: PositiveFloat | None = Field(
        default=None,
        description="Least setting of a layer, as a multiple of the reference; for `qsgd` bits. "
        "Default: 0.5, or 2 bits.",
    )
    high: PositiveFloat | None = Field(
        default=None, description="Greatest setting, likewise. Default: 2, or 8 bits."
    )
    mode: Literal["l-greco", "accordion", "accordion-l-greco", "uniform"] = Field(
        default="l-greco",
        description="Who chooses a layer's setting: the dynamic programme, within the reference's error; "
        "Accordion; the programme, within the error of Accordion's choice; or nobody, and all have the "
        "reference.",
    )
    start: NonNegativeInt = Field(default=100, description="Gradients before anything is compressed.")
    period: PositiveInt = Field(
        default=100, description="Gradients from a decision to the next. The first period is uniform."
    )
    window: PositiveInt = Field(
        default=10, description="Gradients at a period's end whose mean the decision looks at."
    )
    alpha: PositiveFloat = Field(
        default=1.0, description="Error that is allowed, as a multiple of the reference's."
    )
    metric: Literal["l2", "l2-squared"] = Field(
        default="l2",
        description="What is added up over layers: norms of errors, as in the paper, or their squares, which "
        "bound the error of the whole gradient.",
    )
    max_relative_error: PositiveFloat | None = Field(
        default=None, description="Largest error of a layer, relative to its gradient."
    )
    objective: Literal["bytes", "time"] = Field(
        default="bytes",
        description="What is kept low: bytes sent, or seconds, by the speed of network and compressors as "
        "measured at the first decision.",
    )
    buckets: PositiveInt = Field(default=10_000, description="Steps of the budget in the dynamic programme.")
    minimum: PositiveInt = Field(
        default=1024, description="Parameters with fewer entries, or one dimension, are sent as they are."
    )
    payload: Literal["fp32", "fp16"] = Field(
        default="fp32", description="Floats that `powersgd` and `topk` send."
    )
    bucket: PositiveInt = Field(default=512, description="Entries that share a norm in `qsgd`.")
    feedback: bool | None = Field(
        default=None,
        description="Whether what was left out is added to the next gradient; default: not for `qsgd`, which "
        "is unbiased.",
    )
    accordion: AccordionOptions = Field(
        default_factory=AccordionOptions, description="Of the modes that it names."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.window > self.period:
            raise ValueError(f"window ({self.window}) is longer than period ({self.period})")
        if self.family in self.also:
            raise ValueError(f"also: {self.family} is the family itself")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low ({self.low:g}) is above high ({self.high:g})")
        return self


class LGreco(CollectiveStrategy[LGrecoOptions]):
    """Gradients compressed layer by layer, each as far as the whole bears it.

    Every rank computes its shard of the batch, as in `all-reduce`; what is sent is compressed. From
    time to time a dynamic programme gives each layer the setting with which least is sent in all while
    the total error stays that of the reference setting (L-GreCo, arXiv 2210.17357).
    """

    name: ClassVar[str] = "l-greco"
    summary: ClassVar[str] = "each layer's gradient compressed as far as the total error allows"
    evidence: ClassVar[str | None] = "compression"

    def gradient(self, learner: Learner, samples: Tensor, group: Collective) -> float:
        """Make one gradient as the first of a trial."""
        return self.open(group, 0).gradient(learner, samples)

    def open(self, group: Collective, seed: int) -> Session:
        """Begin a trial."""
        from .session import Session

        return Session(self.rules(), group, seed)

    def forecast(self, workers: int, models: int, earlier: Sequence[Path]) -> Forecast | None:
        """Tell from the newest earlier run what a gradient takes dense, uniformly compressed and adapted."""
        from .record import forecast

        return forecast(workers, earlier)

    def rules(self) -> Rules:
        """The options as rules of a `Compression`."""
        from .accordion import Accordion
        from .compression import Rules
        from .decision import Planning

        options = self.options
        accordion = None
        if options.mode in ("accordion", "accordion-l-greco"):
            accordion = Accordion(**options.accordion.model_dump())
        planning = Planning(
            options.mode,
            options.alpha,
            options.metric == "l2-squared",
            options.max_relative_error,
            options.buckets,
            accordion,
        )
        return Rules(
            self._ranges(),
            planning,
            options.start,
            options.period,
            options.window,
            options.minimum,
            options.objective == "time",
        )

    def _ranges(self) -> list[Range]:
        from .menu import Range

        options = self.options
        references: Mapping[str, float] = {
            "powersgd": options.rank,
            "topk": options.density,
            "qsgd": options.bits,
            "dense": 32,
        }
        ranges: list[Range] = []
        for name in (options.family, *options.also):
            family = self._family(name)
            low, high = family.bounds
            if name == options.family:
                low = low if options.low is None else options.low
                high = high if options.high is None else options.high
            ranges.append(Range(family, references[name], low, high))
        return ranges

    def _family(self, name: FamilyName) -> Family:
        from .families import QSGD, Dense, PowerSGD, TopK

        options = self.options
        half = options.payload == "fp16"
        feedback = options.feedback
        match name:
            case "powersgd":
                return PowerSGD(half=half, feedback=feedback is not False)
            case "topk":
                return TopK(half=half, feedback=feedback is not False)
            case "qsgd":
                return QSGD(bucket=options.bucket, feedback=feedback is True)
            case "dense":
                return Dense()
