from __future__ import annotations

import pytest

from orchestrate.core import Direction, Objective, Registry, ReportedObjective, SpecError, resolve

KNOWN: dict[str, tuple[Direction | None, str]] = {
    "accuracy": ("maximize", ""),
    "flops": ("minimize", "FLOPs"),
    "latency": ("minimize", "ms"),
    "loss": ("minimize", ""),
    "macs": ("minimize", "MACs"),
    "metric": (None, ""),
    "parameters": ("minimize", "parameters"),
    "peak-memory": ("minimize", "bytes"),
}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.discover()


def test_the_built_in_objectives_have_a_sense_and_a_unit(registry):
    assert KNOWN.keys() <= set(registry.names("objective"))
    for name, (direction, unit) in KNOWN.items():
        cls = registry.get("objective", name).plugin
        assert (getattr(cls, "direction", None), cls.unit) == (direction, unit)


@pytest.mark.parametrize(
    ("name", "options", "metric"),
    [("accuracy", {}, "accuracy"), ("loss", {}, "loss"), ("metric", {"metric": "f1"}, "f1")],
)
def test_they_name_the_metric(registry, name, options, metric):
    objective = registry.create(Objective, name, options)
    assert isinstance(objective, ReportedObjective)
    assert objective.metric == metric


def job(*objectives: object) -> dict[str, object]:
    stage = {"name": "only", "program": {"name": "python:builtins:print"}}
    return {"name": "test", "objectives": list(objectives), "stages": [stage]}


def mistakes(registry: Registry, *objectives: object) -> str:
    with pytest.raises(SpecError) as caught:  # of the program, at least
        resolve(job(*objectives), registry)
    return str(caught.value)


def test_a_metric_needs_a_direction_from_the_job(registry):
    assert "'f1' has no sense of its own" in mistakes(registry, {"metric": "f1"})
    assert "sense" not in mistakes(registry, {"metric": "f1", "direction": "maximize"})


def test_a_metric_needs_its_name(registry):
    assert "required key is missing" in mistakes(registry, {"name": "metric"})
    assert "objectives.0.metric" in mistakes(registry, {"name": "metric", "metric": ""})
