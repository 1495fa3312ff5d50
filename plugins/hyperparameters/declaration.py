"""The syntax of a declared choice, and what may be wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from ...core import Categorical, Choice, Integer, PluginOptions, Real, Value
from ...core.errors import near_misses

Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Scalar: TypeAlias = StrictStr | bool | StrictInt | Number | None


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]  # pyright: ignore[reportUnknownVariableType]


OneOrMore = Annotated[
    tuple[Scalar, ...],
    Field(min_length=1),
    BeforeValidator(_as_list, json_schema_input_type=tuple[Scalar, ...] | Scalar),
]


class ChoiceSpec(BaseModel):
    """One choice: exactly one of `categorical`, `integer` and `real`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    categorical: tuple[Scalar, ...] | None = Field(
        None, min_length=1, description="The options: strings, numbers, booleans or null."
    )
    integer: tuple[StrictInt, StrictInt] | None = Field(
        None, description="[low, high] of whole numbers, both included."
    )
    real: tuple[Number, Number] | None = Field(
        None, description="[low, high] of real numbers, both included."
    )
    step: int | None = Field(None, ge=1, description="integer: distance between values, from low.")
    log: bool = Field(False, description="integer, real: search the logarithm, for wide ranges.")
    when: dict[str, OneOrMore] = Field(
        default_factory=dict[str, OneOrMore],
        description="Offer the choice only if each of these earlier choices has (one of) the values.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> ChoiceSpec:
        given = [name for name in ("categorical", "integer", "real") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "give exactly one of `categorical: [options]`, `integer: [low, high]` and "
                f"`real: [low, high]`, not {' and '.join(given) or 'none'}"
            )
        if self.step is not None and self.integer is None:
            raise ValueError(f"`step` is for `integer`, not for `{given[0]}`")
        if self.log and self.categorical is not None:
            raise ValueError("`log` is for `integer` and `real`, not for `categorical`")
        if self.log and self.step not in {None, 1}:
            raise ValueError("`log` and `step` exclude each other")
        bounds = self.integer or self.real
        if bounds and bounds[0] > bounds[1]:
            raise ValueError(f"low {bounds[0]} is above high {bounds[1]}")
        if bounds and self.log and bounds[0] <= 0:
            raise ValueError(f"`log` needs a low above 0, not {bounds[0]}")
        options = self.categorical or ()
        if len({(type(option), option) for option in options}) < len(options):
            raise ValueError(f"lists an option twice: {list(options)}")
        return self

    def choice(self, name: str) -> Choice:
        """Make the choice that is offered under `name`."""
        if self.categorical is not None:
            return Categorical(name, self.categorical)
        if self.integer is not None:
            return Integer(name, *self.integer, step=self.step or 1, log=self.log)
        assert self.real is not None
        return Real(name, *self.real, log=self.log)

    def active(self, made: Mapping[str, Value]) -> bool:
        """Whether the choice is offered after the choices `made`: an absent parent fulfils nothing."""
        return all(parent in made and among(made[parent], values) for parent, values in self.when.items())


class HyperparameterOptions(PluginOptions):
    """Options of `hyperparameters`."""

    choices: dict[str, ChoiceSpec] = Field(
        min_length=1, description="The choices by name, in the order in which they are made."
    )

    @field_validator("choices")
    @classmethod
    def _conditions(cls, choices: dict[str, ChoiceSpec]) -> dict[str, ChoiceSpec]:
        wrong: list[InitErrorDetails] = []
        earlier: dict[str, Choice] = {}
        for name, spec in choices.items():
            for parent, values in spec.when.items():
                fault = _fault(name, parent, values, earlier, choices)
                if fault:
                    kind = PydanticCustomError("condition", "{fault}", {"fault": fault})
                    wrong.append(InitErrorDetails(type=kind, loc=(name, "when", parent), input=None))
            earlier[name] = spec.choice(name)
        if wrong:
            raise ValidationError.from_exception_data(cls.__name__, wrong)
        return choices


def _fault(
    name: str,
    parent: str,
    values: tuple[Value, ...],
    earlier: Mapping[str, Choice],
    choices: Mapping[str, ChoiceSpec],
) -> str | None:
    """Say what is wrong with the condition on `parent` of the choice `name`."""
    if parent not in earlier:
        if parent == name:
            return "a choice can't depend on itself"
        if parent in choices:
            return f"{parent!r} is declared below {name!r}: declare it above"
        return f"no choice is called {parent!r}. {near_misses(parent, earlier)}".rstrip(".")
    choice = earlier[parent]
    if isinstance(choice, Real):
        return f"{parent!r} is real-valued, and hardly ever hits a value: use a categorical or an integer"
    for value in values:
        if value in choice:
            continue
        if isinstance(choice, Categorical):
            return f"{parent!r} is never {value!r}: its options are {list(choice.options)}"
        grid = f" in steps of {choice.step}" if choice.step > 1 else ""
        return f"{parent!r} is never {value!r}: it goes from {choice.low} to {choice.high}{grid}"
    return None


def among(value: Value, values: Sequence[Value]) -> bool:
    """Whether `value` is one of `values`: 1, 1.0 and true are three."""
    return any(type(value) is type(one) and value == one for one in values)
