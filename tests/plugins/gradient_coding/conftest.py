"""Time in tests of whole trainings."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrate.plugins.gradient_coding import planning, session


class AtOnce(Executor):
    """Runs what it is given before it returns."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


@pytest.fixture
def virtual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no real time in beside the workers' virtual one: when a decision is there is a matter of rounds,
    and the master's own work takes none.
    """
    monkeypatch.setattr(planning, "ThreadPoolExecutor", AtOnce)
    monkeypatch.setattr(session, "time", SimpleNamespace(perf_counter=lambda: 0.0))
