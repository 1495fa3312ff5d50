"""Sends requests to MLflow again, where that does no harm: a busy server refuses some, or loses answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

T = TypeVar("T")

PAUSES = (0.05, 0.2, 0.5, 1.0)  # seconds before each further try; an outage is the delivery's business

CREATING = frozenset({"create_run", "create_logged_model", "create_model_version", "log_outputs"})
"""What makes something anew each time it is sent."""


def again(call: Callable[[], T], passing: Callable[[Exception], bool]) -> T:
    """Call until it succeeds or fails for good, a few times at most."""
    for pause in PAUSES:
        try:
            return call()
        except Exception as error:
            if not passing(error):
                raise
        time.sleep(pause)
    return call()


def patient(client: T, passing: Callable[[Exception], bool]) -> T:
    """A client of MLflow that sends again what may be sent again."""
    return cast("T", _Patient(client, passing))


class _Patient:
    def __init__(self, client: object, passing: Callable[[Exception], bool]) -> None:
        self._client = client
        self._passing = passing

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name in CREATING or not callable(found):
            return found
        return lambda *arguments, **options: again(lambda: found(*arguments, **options), self._passing)  # pyright: ignore[reportUnknownLambdaType, reportUnknownVariableType]
