"""What every plugin of every kind has: a kind, a name, a one-line summary and validated options."""

from __future__ import annotations

from abc import ABC
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeAlias, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeVar

Kind: TypeAlias = Literal[
    "task", "space", "sampler", "objective", "program", "fingerprint", "parallel strategy"
]


class PluginOptions(BaseModel):
    """Base of every plugin's options: unknown keys are errors, values don't change once read.

    A plugin's option models give each field a `description`; `orchestrate plugins show` and the
    JSON Schema print it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


OptionsT = TypeVar(  # noqa: PLC0105 - a plugin author sees the plain name
    "OptionsT", bound=PluginOptions, default=PluginOptions, covariant=True
)


class Plugin(ABC, Generic[OptionsT]):
    """Base of the seven kinds.

    A subclass names its options model once, as the type argument
    (`class Digits(Task[DigitsOptions])`), and finds the validated instance in `self.options`;
    one without options (`class Random(Sampler)`) names none.
    """

    kind: ClassVar[Kind]
    name: ClassVar[str]
    summary: ClassVar[str]
    Options: ClassVar[type[PluginOptions]] = PluginOptions

    def __init__(self, options: OptionsT | None = None) -> None:
        self.options: OptionsT = options if options is not None else self.Options()  # type: ignore[assignment]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in getattr(cls, "__orig_bases__", ()):
            origin = get_origin(base)
            if isinstance(origin, type) and issubclass(origin, Plugin):
                for argument in get_args(base):
                    if isinstance(argument, type) and issubclass(argument, PluginOptions):
                        cls.Options = argument

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.options!r})"


class StageReference:
    """Marks an option that names an earlier stage of the job; see `StageName`."""


StageName: TypeAlias = Annotated[str, StageReference()]
"""Type of an option that names an earlier stage: the job file's check makes sure there is one."""
