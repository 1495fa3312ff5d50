"""What every contract check is made of: an error that names the broken rule and the remedy."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from ..errors import OrchestrateError

ResultT = TypeVar("ResultT")


class ContractError(AssertionError):
    """A plugin breaks a rule of its kind. The text names the rule and says what to do."""


def require(holds: Any, rule: str, remedy: str) -> None:
    """Check one rule.

    Raises:
        ContractError: it doesn't hold.
    """
    if not holds:
        raise ContractError(f"{rule}. {remedy}.")


def is_finite(value: object) -> bool:
    """Whether `value` is a number that is neither NaN nor infinite."""
    return isinstance(value, float | int) and math.isfinite(value)


@contextmanager
def only(rule: str, remedy: str, *allowed: type[BaseException]) -> Generator[None]:
    """Turn any exception of the block, other than the `allowed` ones, into a broken rule."""
    try:
        yield
    except (ContractError, *allowed):
        raise
    except Exception as error:
        raise ContractError(f"{rule}, but {type(error).__name__}: {error}. {remedy}.") from error


def refuses(action: Callable[[], Any], *errors: type[BaseException]) -> bool:
    """Whether `action` raises one of `errors`."""
    try:
        action()
    except errors:
        return True
    except OrchestrateError:
        return False
    return False
