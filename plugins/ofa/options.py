"""Options of the programs. Needs no torch: a job file is checked with these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, TypeGuard

from pydantic import Field, PositiveFloat, PositiveInt

from ...core import DataError, PluginOptions, SearchSpace, SpecError, StageName, Task
from ...core.training.options import TrainingOptions
from .base import OnceForAll
from .phases import Method, PhaseOptions


class ScoringOptions(PluginOptions):
    """How sub-nets are scored."""

    calibration_images: PositiveInt = Field(
        default=2000, description="Training images that BatchNorm is re-calibrated with, at most."
    )
    calibration_batch: PositiveInt = Field(default=200, description="Images of a calibration batch.")
    validation_images: PositiveInt | None = Field(
        default=None, description="Validation images to score on; by default all."
    )
    memory: PositiveFloat = Field(
        default=4.0,
        description="GiB of activations that candidates may share; above, they are scored one by one.",
    )


class TrainSupernetOptions(TrainingOptions, ScoringOptions):
    """Options of `ofa-train`."""

    weight_decay: float = Field(default=3e-5, ge=0, description="Weight decay; never of kernel matrices.")
    decay_norm_and_bias: bool = Field(
        default=False, description="Decay normalisation parameters and biases too."
    )
    label_smoothing: float = Field(default=0.1, ge=0, lt=1, description="Share spread over all classes.")
    method: Method = Field(
        default="progressive-shrinking",
        description="A ready list of phases, made from `epochs` and `learning_rate` of the full net; all "
        "methods have as many sub-net passes. `sandwich`: one phase with in-place distillation (BigNAS); "
        "`warm-start`: the full net, then the whole space; `scratch`: the whole space at once.",
    )
    phases: tuple[PhaseOptions, ...] | None = Field(
        default=None, min_length=1, description="Phases of your own, instead of a `method`."
    )
    supernet: StageName | None = Field(
        default=None, description="Earlier stage whose supernet the first phase starts from."
    )
    trained: Mapping[str, PositiveInt | Literal["all"]] = Field(
        default_factory=dict[str, PositiveInt | Literal["all"]],
        description="With `supernet`: what is elastic in it (kind: how many of the largest values).",
    )
    reduction: Literal["mean", "sum"] = Field(
        default="mean",
        description="Average or sum the losses of a step's sub-nets; a sum multiplies the learning rate.",
    )
    importance: Literal["consumer-l1", "own-l1", "norm-scale", "taylor"] = Field(
        default="consumer-l1",
        description="What channels are sorted by: norms of the weights that read them, or make them; their "
        "scale in normalisation; or what leaving them out would cost, by gradients (1906.10771).",
    )
    keep: Literal["last", "best"] = Field(
        default="last",
        description="The weights that a phase ends with: its last, or those of the epoch after which the "
        "corner networks' mean accuracy was best; then they are scored after every epoch.",
    )
    interference_tolerance: float = Field(
        default=0.02, ge=0, le=1, description="How much accuracy a phase may cost the largest network."
    )
    on_interference: Literal["go-on", "stop", "roll-back"] = Field(
        default="go-on",
        description="When it costs more: go on, end the training there, or end it without that phase.",
    )


class EvaluateOptions(ScoringOptions):
    """Options of `ofa-evaluate`."""

    supernet: StageName = Field(description="Earlier stage that trained the supernet.")
    calibrate: bool = Field(
        default=True, description="Re-calibrate BatchNorm. Without, accuracies mean little."
    )
    predictor: StageName | None = Field(
        default=None, description="Earlier `ofa-predict` stage whose predictor answers instead of images."
    )
    latency: StageName | None = Field(
        default=None, description="Earlier `ofa-profile` stage whose table gives `latency_ms`."
    )


class PredictOptions(ScoringOptions):
    """Options of `ofa-predict`."""

    supernet: StageName = Field(description="Earlier stage that trained the supernet.")
    candidates: int = Field(default=300, ge=20, description="Different random candidates in the table.")
    held_out: float = Field(default=0.2, gt=0, lt=1, description="Share of them that the card is made from.")
    predictor: Literal["mlp", "ridge", "macs"] = Field(default="mlp", description="Which one to use.")
    hidden: tuple[PositiveInt, ...] = Field(default=(400, 400, 400), description="Hidden layers of `mlp`.")
    epochs: PositiveInt = Field(default=200, description="Passes over the table for `mlp`.")
    learning_rate: PositiveFloat = Field(default=1e-3, description="Learning rate of `mlp` (Adam).")
    weight_decay: float = Field(default=1e-4, ge=0, description="Weight decay of `mlp`.")
    batch_size: PositiveInt = Field(default=64, description="Candidates a step of `mlp`.")
    ridge: PositiveFloat = Field(default=1.0, description="Penalty of `ridge`.")


class ProfileOptions(PluginOptions):
    """Options of `ofa-profile`."""

    batch_size: PositiveInt = Field(default=1, description="Images in a measured pass.")
    threads: PositiveInt = Field(default=1, description="CPU threads of a measured pass.")
    warmup: PositiveInt = Field(default=3, description="Passes before those that count.")
    repeats: PositiveInt = Field(default=10, description="Passes whose median counts.")
    resolutions: tuple[PositiveInt, ...] | None = Field(
        default=None, min_length=1, description="Resolutions in the table; by default all of the space's."
    )
    networks: int = Field(default=20, ge=2, description="Whole networks measured to check the table's sums.")


class FinetuneOptions(TrainingOptions):
    """How a specialised network is trained on."""

    epochs: int = Field(default=0, ge=0, description="Epochs of fine-tuning; 0 for none.")  # type: ignore[assignment]
    learning_rate: float = Field(default=0.01, gt=0, description="Highest learning rate.")
    weight_decay: float = Field(default=3e-5, ge=0, description="Weight decay.")
    decay_norm_and_bias: bool = Field(
        default=False, description="Decay normalisation parameters and biases too."
    )


Format: TypeAlias = Literal["torch.export", "onnx", "safetensors"]


class SpecializeOptions(ScoringOptions):
    """Options of `ofa-specialize`."""

    supernet: StageName = Field(description="Earlier stage that trained the supernet.")
    finetune: FinetuneOptions = Field(default_factory=FinetuneOptions, description="Fine-tuning.")
    export: tuple[Format, ...] = Field(
        default=("safetensors",),
        description="Formats: `torch.export` (.pt2), `onnx` (extra `onnx`), `safetensors` with a JSON file.",
    )


def is_once_for_all(space: SearchSpace) -> TypeGuard[OnceForAll]:
    """Whether the space is one of Once-for-All's."""
    return isinstance(space, OnceForAll)


def check_space(program: str, space: SearchSpace, task: Task) -> OnceForAll:
    """Refuse spaces and tasks that don't fit.

    Raises:
        SpecError: the space is none of Once-for-All's, or its preset is for images of another size.
    """
    if not is_once_for_all(space):
        raise SpecError(
            f"program {program!r} needs a Once-for-All space, not {space.name!r}: set "
            "`space: {name: ofa-mobilenetv3}`, ofa-proxyless or ofa-resnet50d"
        )
    try:
        side = max(task.shape().input[1:])
    except DataError:  # a job may be checked where its data isn't
        return space
    largest = max(space.resolutions)
    if not side / 2 <= largest <= 2 * side:
        raise SpecError(
            f"space {space.name!r} with preset {space.options.preset!r} scales images to {largest} "
            f"pixels, and the task's have {side}: choose another `preset` (imagenet, small, tiny), "
            "or set `resolutions`"
        )
    return space
