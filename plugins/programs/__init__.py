"""Programs that need no particular search space, and the learning-rate schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...core import Program, ScheduleFactory, hookimpl
from ...core.training.schedules import SCHEDULES
from .train import Train


@hookimpl
def programs() -> Sequence[type[Program]]:
    """The programs."""
    return [Train]


@hookimpl
def schedules() -> Mapping[str, ScheduleFactory]:
    """The schedules."""
    return SCHEDULES
