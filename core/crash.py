"""Places at which a process can be made to die, for tests of what is left behind.

`ORCHESTRATE_CRASH_AT=commit:12:/tmp/mark` kills a process at its twelfth commit, as `kill -9` would; the
file is made at that moment, and once it is there nobody dies any more. `list:0:/tmp/names` kills nobody, and
writes the names of the points that are passed, one a line. Unset, a point costs a look at the environment.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import Any, TypeVar, cast

T = TypeVar("T")

VARIABLE = "ORCHESTRATE_CRASH_AT"

_passed: Counter[str] = Counter()


def crash_point(name: str) -> None:
    """A point of that name: something was just written, or just told to someone outside."""
    plan = os.environ.get(VARIABLE)
    if not plan:
        return
    wanted, number, path = plan.split(":", 2)
    if wanted == "list":
        with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123 - one write, appended whole
            file.write(f"{name}\n")
        return
    if wanted != name:
        return
    _passed[name] += 1
    if _passed[name] != int(number):
        return
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def crash_points(target: T, name: str) -> T:
    """`target` with a point behind each call of a method of it. The very same when no one is to die."""
    return cast("T", _Watched(target, name)) if os.environ.get(VARIABLE) else target


class _Watched:
    def __init__(self, target: object, name: str) -> None:
        self._target = target
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._target, attribute)
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            result = found(*arguments, **options)
            crash_point(self._name)
            return result

        return call
