"""The options that training programs share. Needs no torch: a job file is checked with these."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationInfo, model_validator

from ..errors import UnknownPluginError, near_misses
from ..hookspecs import ScheduleFactory
from ..plugin import PluginOptions
from ..registry import Registry

Share: TypeAlias = Annotated[float, Field(gt=0, le=1)]


class ScheduleOptions(PluginOptions):
    """A learning-rate schedule by name; every other key is one of its options."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(default="cosine", description="Schedule of any installed plugin.")

    @property
    def options(self) -> dict[str, Any]:
        """The schedule's own options."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _makeable(self, info: ValidationInfo) -> ScheduleOptions:
        """Try the schedule, where the context has a registry to find it in."""
        registry: Any = info.context and info.context.get("registry")
        if isinstance(registry, Registry):
            try:
                factory = registry.schedule(self.name)
                _check_names(self.name, factory, self.options)
                factory(100, **self.options)
            except (UnknownPluginError, TypeError) as error:
                raise ValueError(str(error).rstrip(".")) from None
        return self


def _check_names(schedule: str, factory: ScheduleFactory, options: Mapping[str, Any]) -> None:
    parameters = list(signature(factory).parameters.values())
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters[1:]]
    for name in options:
        if name not in known:
            raise TypeError(f"schedule {schedule!r} has no option {name!r}. {near_misses(name, known)}")


class AugmentOptions(PluginOptions):
    """Random changes to training images, drawn anew for each sample in each epoch, in this order: crop,
    colours, flip and shift, cutout.
    """

    shift: NonNegativeInt = Field(
        default=0,
        description="Pixels by which an image moves at most, each way (zero-padded random crop).",
    )
    flip: bool = Field(default=False, description="Mirror left and right, half of the time.")
    cutout: NonNegativeInt = Field(default=0, description="Side of a square of zeros, in pixels.")
    crop: tuple[Share, Share] | None = Field(
        default=None,
        description="Scale a random part to the whole: its least and largest share of the image's area "
        "(ImageNet: [0.08, 1]). Aspect ratios are from 3:4 to 4:3.",
    )
    brightness: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Multiply pixels by 1 plus or minus this, at most (ImageNet: 0.125).",
    )
    saturation: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Multiply colours' distance from grey by 1 plus or minus this, at most (ImageNet: 0.5).",
    )

    @property
    def recolours(self) -> bool:
        """Whether colours change."""
        return self.brightness > 0 or self.saturation > 0

    @model_validator(mode="after")
    def _rising(self) -> AugmentOptions:
        if self.crop is not None and self.crop[0] > self.crop[1]:
            raise ValueError(f"crop goes from the least share to the largest, not {list(self.crop)}")
        return self


class TrainingOptions(PluginOptions):
    """How a network is trained."""

    epochs: PositiveInt = Field(default=12, description="Passes over the training split.")
    batch_size: PositiveInt = Field(
        default=64,
        description="Most samples in a step; an epoch's steps are of equal size, give or take 1.",
    )
    optimizer: Literal["sgd", "adam", "adamw"] = Field(default="sgd", description="Optimiser.")
    learning_rate: float = Field(default=0.1, gt=0, description="Highest learning rate.")
    weight_decay: float = Field(default=5e-4, ge=0, description="Weight decay (L2; decoupled for adamw).")
    decay_norm_and_bias: bool = Field(
        default=True, description="Decay normalisation parameters and biases too."
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum of sgd.")
    nesterov: bool = Field(default=True, description="Nesterov momentum of sgd.")
    schedule: ScheduleOptions = Field(default_factory=ScheduleOptions, description="Learning rate by step.")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="Share spread over all classes.")
    augment: AugmentOptions = Field(
        default_factory=AugmentOptions, description="Random changes to training images."
    )
    mixup: float = Field(
        default=0.0,
        ge=0,
        description="Mix each image and its label with another's, by a share drawn from Beta(this, this) "
        "(1710.09412; 0.2 is usual). 0 for none.",
    )
    clip: float | None = Field(default=None, gt=0, description="Largest norm of the gradient.")
    amp: Literal["auto", "off"] = Field(
        default="auto", description="Mixed precision where the device has it (GPUs)."
    )
