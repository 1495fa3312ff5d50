"""A candidate: the choices that one walk through a search space made."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from hashlib import blake2b
from typing import Any, TypeAlias

from .errors import SpaceError

Value: TypeAlias = str | int | float | bool | None
"""What a choice may be: a JSON scalar. Floats are finite."""


def canonical_json(value: Any) -> str:
    """Serialise JSON data to its one canonical text: sorted keys, no blanks, finite numbers only.

    Raises:
        ValueError: for NaN or an infinity, which JSON has no word for.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """Name JSON data by content: 128-bit BLAKE2b of its canonical text, as 32 hex digits."""
    return blake2b(canonical_json(value).encode(), digest_size=16).hexdigest()


class Candidate(Mapping[str, Value]):
    """The active choices of one walk, in the order they were made: immutable and hashable.

    Two candidates are equal when their canonical JSON is: the order of choices doesn't count, the
    type does (1 and 1.0 differ).
    """

    __slots__ = ("__dict__", "_choices")

    def __init__(self, choices: Mapping[str, Value] | None = None) -> None:
        self._choices = {name: _checked(name, value) for name, value in (choices or {}).items()}

    def __getitem__(self, name: str) -> Value:
        return self._choices[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._choices)

    def __len__(self) -> int:
        return len(self._choices)

    @cached_property
    def json(self) -> str:
        """The canonical JSON text."""
        return canonical_json(self._choices)

    @cached_property
    def digest(self) -> str:
        """128-bit content digest, 32 hex digits, the same in every process."""
        return blake2b(self.json.encode(), digest_size=16).hexdigest()

    def __hash__(self) -> int:
        return hash(self.json)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Candidate) and self.json == other.json

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self._choices.items())
        return f"Candidate({inside})"

    def __reduce__(self) -> tuple[type[Candidate], tuple[dict[str, Value]]]:
        return Candidate, (self._choices,)


def _checked(name: str, value: object) -> Value:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise SpaceError(f"choice {name!r} is {value}: a candidate holds finite numbers only")
        return value + 0.0  # folds -0.0 into 0.0, which compute the same and must digest the same
    if value is None or isinstance(value, str | int):  # bool is an int
        return value
    raise SpaceError(
        f"choice {name!r} is a {type(value).__name__}: use a string, a number, a boolean or null, "
        "and turn it into an object in the space's build()"
    )
