"""Options of `functional-hash`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from ...core import PluginOptions
from ...core.errors import PluginError
from ...core.registry import imported

Tier = Literal["exact", "structural", "functional"]
Adapter = Literal["network", "function", "estimator"]


@dataclass(frozen=True)
class Defaults:
    """What an adapter takes where the options are silent; measured with `functional-hash calibrate`."""

    examples: int
    repetitions: int
    quantum: float


DEFAULTS: dict[Adapter, Defaults] = {
    "network": Defaults(4, 1, 1e-6),
    "function": Defaults(10, 3, 1e-6),
    "estimator": Defaults(64, 1, 1e-6),
}


class FunctionalHashOptions(PluginOptions):
    """Options of `functional-hash`."""

    semantics: Literal["trained", "fresh"] = Field(
        "trained",
        description="Networks: `trained` gives every parameter a random value, shifts and gates "
        "included, so that nothing is merged that training could tell apart; `fresh` takes the network's "
        "own initialisation, and merges all that compute the same before training.",
    )
    tiers: tuple[Tier, ...] = Field(
        ("exact", "structural", "functional"),
        min_length=1,
        description="Which keys are computed: the candidate itself, its canonical structure (where "
        "the space knows it), what it computes.",
    )
    examples: PositiveInt | None = Field(
        None, description="Examples a probe is run on; by default 4 (network), 10 (function), 64 (estimator)."
    )
    repetitions: PositiveInt | None = Field(
        None, description="Probes, each with other numbers; by default 1 (network, estimator), 3 (function)."
    )
    quantum: PositiveFloat | None = Field(
        None,
        description="Width of the grid that outputs are rounded to (of their inverse hyperbolic "
        "sine: absolute near 0, relative for large numbers); by default 1e-6.",
    )
    trace: int = Field(
        2,
        ge=0,
        description="Networks, `trained` only: first steps of gradient descent whose losses count, too.",
    )
    check: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of candidates that are run though recall knows their structure: their numbers "
        "are compared, and `orchestrate recall stats` counts what the functional key would have missed.",
    )
    probe: str | None = Field(
        None,
        description="`python:module:function`: takes a candidate and returns what is to be probed, a "
        "network, a scikit-learn estimator, or a function of (seed, examples) that returns numbers.",
    )
    visible: tuple[str, ...] = Field(
        (),
        description="With `probe`: the choices that it shows fully. All others must be equal.",
    )
    seconds: PositiveFloat = Field(
        30.0, description="Longest a probe may take; beyond, the candidate has no functional key."
    )
    memory: PositiveInt = Field(
        4096, description="MiB that a probe may take; beyond, the candidate has no functional key."
    )
    isolate: bool = Field(
        True,
        description="Probe in a process of its own, with the limits above. Without, nothing limits a "
        "candidate that hangs or takes all memory.",
    )

    @field_validator("probe")
    @classmethod
    def _found(cls, probe: str | None) -> str | None:
        if probe is not None:
            try:
                imported(probe)
            except PluginError as error:
                raise ValueError(str(error).rstrip(".")) from None
        return probe

    @model_validator(mode="after")
    def _fits(self) -> FunctionalHashOptions:
        if self.visible and self.probe is None:
            raise ValueError("`visible` goes with `probe`: a space says itself what its own probe shows")
        if self.examples == 1:
            raise ValueError("`examples` must be at least 2: batch statistics of one example are none")
        return self
