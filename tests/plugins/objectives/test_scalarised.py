"""`scalarised`: a preference over other objectives, in the job file and in a stage."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrate.core import Registry, SpecError, resolve
from orchestrate.plugins.objectives import Scalarised

OPTIONS: dict[str, Any] = {
    "weights": {"accuracy": 3, "latency": 1},
    "bounds": {"accuracy": [0.5, 1.0], "latency": [30, 10]},
}


def objective(**options: Any) -> Scalarised:
    return Scalarised(Scalarised.Options.model_validate({**OPTIONS, **options}))


def test_hand_values() -> None:
    values = {"accuracy": 0.9, "latency": 25.0, "else": 7.0}  # qualities 0.8 and 0.25
    expected = {
        "weighted-sum": 0.75 * 0.8 + 0.25 * 0.25,
        "weighted-log-sum": 0.8**0.75 * 0.25**0.25,
        "tchebycheff": 1 - 0.25 * 0.75,
        "augmented-tchebycheff": 1 - 0.25 * 0.75 + 0.05 * (0.75 * 0.8 + 0.25 * 0.25),
    }
    for method, value in expected.items():
        assert objective(method=method).combine(values) == pytest.approx(value)


def test_beyond_the_bounds_it_goes_on() -> None:
    better = objective().combine({"accuracy": 1.0, "latency": 5.0})
    assert better > objective().combine({"accuracy": 1.0, "latency": 10.0})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": {"accuracy": 1}}, "only one names latency"),
        ({"weights": {"accuracy": 0, "latency": 0}}, "every weight is 0"),
        ({"weights": {"accuracy": -1, "latency": 1}}, "finite number, 0 or more"),
        ({"bounds": {"accuracy": [1, 1], "latency": [30, 10]}}, "give two"),
        ({"method": "tchebychev"}, "augmented-tchebycheff"),
    ],
)
def test_options_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        objective(**change)


def job(objectives: list[dict[str, Any]], **stage: Any) -> dict[str, Any]:
    return {
        "name": "preferred",
        "space": {"name": "nasbench201"},
        "objectives": objectives,
        "stages": [
            {
                "name": "search",
                "program": {"name": "tabular"},
                "sampler": {"name": "evolution"},
                "trials": 5,
                **stage,
            }
        ],
    }


SCALARISED = {"name": "scalarised", **OPTIONS}
ACCURACY = {"metric": "accuracy", "direction": "none"}
LATENCY = {"metric": "latency", "direction": "none"}


def problems(objectives: list[dict[str, Any]], **stage: Any) -> str:
    with pytest.raises(SpecError) as caught:
        resolve(job(objectives, **stage), Registry.discover())
    return str(caught.value)


def test_a_single_objective_sampler_takes_it() -> None:
    data = job([SCALARISED, ACCURACY, LATENCY])
    stage = resolve(data, Registry.discover()).stages[0]
    assert [goal.name for goal in stage.problem.optimised] == ["scalarised"]
    assert stage.completed({"accuracy": 0.9}) == {"accuracy": 0.9}
    known = stage.completed({"accuracy": 0.9, "latency": 25.0})
    assert known["scalarised"] == pytest.approx(objective().combine(known))


def test_mistakes_in_a_job_file_are_told() -> None:
    assert "combines 'latency', which is no objective that is measured" in problems([SCALARISED, ACCURACY])
    backwards = {**SCALARISED, "bounds": {"accuracy": [1.0, 0.5], "latency": [30, 10]}}
    found = problems([backwards, {**ACCURACY, "direction": "maximize"}, LATENCY])
    assert "objective 'accuracy' is to maximize, and its bounds [1, 0.5] say the opposite" in found
    other = {**SCALARISED, "label": "other", "weights": {"scalarised": 1}, "bounds": {"scalarised": [0, 1]}}
    assert "combines 'scalarised'" in problems([SCALARISED, other, ACCURACY, LATENCY])
    idle = {"metric": "flops", "direction": "none"}
    found = problems([SCALARISED, ACCURACY, LATENCY, idle])
    assert "direction none means a mere bound or a part of a combined objective" in found


def test_early_stopping_needs_parts_that_are_known_while_a_trial_runs() -> None:
    measured = [
        {**SCALARISED, "weights": {"accuracy": 1, "latency": 1}},
        ACCURACY,
        {"name": "latency", "direction": "none"},
    ]
    data = {"program": {"name": "train"}, "sampler": {"name": "random"}, "early_stopping": {"name": "asha"}}
    assert "objective 'scalarised' is not reported by step" in problems(measured, **data)
    static = [
        {
            **SCALARISED,
            "weights": {"accuracy": 1, "flops": 1},
            "bounds": {"accuracy": [0, 1], "flops": [1e7, 0]},
        },
        ACCURACY,
        {"name": "flops", "direction": "none"},
    ]
    assert resolve(job(static, **data), Registry.discover()).stages[0].goals[0].name == "scalarised"
