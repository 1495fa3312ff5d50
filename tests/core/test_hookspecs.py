from __future__ import annotations

import inspect
from typing import Any

import pytest

from orchestrate.core import hookspecs
from orchestrate.core.registry import BASES

SPECS = {
    name: value
    for name, value in vars(hookspecs).items()
    if callable(value) and hasattr(value, "orchestrate_spec")
}


def test_each_kind_has_a_registration_hook() -> None:
    assert set(hookspecs.REGISTRATION) == set(BASES)
    assert set(hookspecs.REGISTRATION.values()) | {"schedules"} <= set(SPECS)


@pytest.mark.parametrize("name", SPECS)
def test_each_hook_is_documented(name: str) -> None:
    text = inspect.getdoc(SPECS[name]) or ""
    assert len(text) > 40
    assert "Since 0." in text


@pytest.mark.parametrize("name", SPECS)
def test_each_hook_is_annotated(name: str) -> None:
    signature = inspect.signature(SPECS[name])
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(one.annotation is not inspect.Parameter.empty for one in signature.parameters.values())


@pytest.mark.parametrize("event", [hookspecs.JobEvent, hookspecs.StageEvent, hookspecs.TrialEvent])
def test_events_are_frozen_and_documented(event: Any) -> None:
    assert event.__doc__
    assert event.__dataclass_params__.frozen
