"""Every installed plugin keeps its kind's contract."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrate.core import (
    Fingerprint,
    Goal,
    Objective,
    ParallelStrategy,
    Plugin,
    Program,
    Registry,
    Sampler,
    SearchSpace,
    Shape,
    Task,
)
from orchestrate.core.testing import (
    ExampleSpace,
    check_class,
    check_fingerprint,
    check_objective,
    check_parallel_strategy,
    check_sampler,
    check_space,
    check_task,
)
from tests.core.testing.examples import Blobs, Networks, Numbers, Three

REGISTRY = Registry.discover()
DOUBLE = (Goal("loss", "minimize"), Goal("gain", "maximize"))
BOUNDED = (Goal("loss", "minimize", maximum=0.6), Goal("gain", "maximize", minimum=0.2))

# Options of plugins that can't do without, and of those whose defaults are too slow for a test.
OPTIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("space", "hyperparameters"): {
        "choices": {
            "kind": {"categorical": ["a", "b"]},
            "depth": {"integer": [1, 5], "step": 2, "when": {"kind": "b"}},
            "width": {"integer": [1, 4], "when": {"depth": [3, 5]}},
        }
    },
    **{("space", f"ofa-{net}"): {"preset": "tiny"} for net in ("mobilenetv3", "proxyless", "resnet50d")},
    ("space", "plain-networks"): {"resolution": 32, "width_multiplier": 0.25},
    **{("program", f"ofa-{what}"): {"supernet": "x"} for what in ("evaluate", "predict", "specialize")},
    ("objective", "metric"): {"metric": "f1"},
    ("objective", "scalarised"): {
        "weights": {"f1": 2, "latency": 1},
        "bounds": {"f1": [0, 1], "latency": [30, 10]},
    },
    ("objective", "synthetic"): {"score": "branin"},
    ("space", "nasbench101"): {"vertices": 4, "width": 8, "depth": 1},
    ("sampler", "evolution"): {"population": 10, "tournament": 3},
    ("sampler", "gp"): {"n_startup_trials": 4},
    ("sampler", "mogfn-al"): {
        "initial": 8,
        "growth": 1.0,
        "pool": 32,
        "gflownet": {"steps": 3, "batch": 8, "width": 8},
    },
    ("sampler", "mogfn-pc"): {"initial": 8, "gflownet": {"steps": 3, "batch": 8, "width": 8}},
    ("sampler", "qnehvi"): {"n_startup_trials": 4, "pool": 30, "mc_samples": 8},
    ("sampler", "qparego"): {"n_startup_trials": 4, "pool": 30, "mc_samples": 8},
    ("sampler", "nsga2"): {"population_size": 8},
    ("sampler", "nsga3"): {"population_size": 8},
}
# Input shapes that a space's networks need, where 1 x 28 x 28 won't do.
SHAPES = {"nasbench201": Shape((3, 16, 16), 10)}
# Samplers that need another space than one with every type of choice.
SPACES: dict[str, SearchSpace] = {"grid": Three(), "cma-es": Numbers()}
SINGLE_OBJECTIVE = {"cma-es"}
# Objectives that judge another space than one of networks.
JUDGED: dict[str, SearchSpace] = {"synthetic": REGISTRY.create(SearchSpace, "hypergrid")}
# Samplers that take tenths of a second an ask.
SLOW = {
    "gp": {"trials": 7, "further": 2},
    "qnehvi": {"trials": 6, "further": 1},
    "qparego": {"trials": 6, "further": 1},
    "mogfn-al": {"trials": 14, "further": 5},
}
# What reads files is checked where those are made (tests/plugins/tasks).
ELSEWHERE = {("task", "image-folder"), ("task", "fashion-mnist")}


def made(kind: str) -> list[Any]:
    """An instance of each installed plugin of a kind, as a test parameter."""
    return [
        pytest.param(
            one.plugin(one.plugin.Options(**OPTIONS.get((kind, one.plugin.name), {}))), id=one.plugin.name
        )
        for one in REGISTRY
        if one.plugin.kind == kind and not missing(one.plugin)
    ]


def missing(plugin: type[Plugin]) -> list[str]:
    """Required options that `OPTIONS` doesn't give."""
    given = OPTIONS.get((plugin.kind, plugin.name), {})
    fields = plugin.Options.model_fields.items()
    required = [name for name, field in fields if field.is_required() and name not in given]
    return required or [name for name in ("data",) if (plugin.kind, plugin.name) in ELSEWHERE]


def test_every_plugin_is_checked_here_or_elsewhere() -> None:
    left_out = {(one.plugin.kind, one.plugin.name) for one in REGISTRY if missing(one.plugin)}
    assert left_out == ELSEWHERE


def test_every_entry_point_loads() -> None:
    assert [str(failure.source) for failure in REGISTRY.failures] == []


@pytest.mark.parametrize(
    "plugin", [pytest.param(one.plugin, id=f"{one.plugin.kind}-{one.plugin.name}") for one in REGISTRY]
)
def test_class(plugin: type[Plugin]) -> None:
    check_class(plugin)


@pytest.mark.parametrize("space", made("space"))
def test_space(space: SearchSpace) -> None:
    check_space(space, SHAPES.get(space.name))


@pytest.mark.parametrize("sampler", made("sampler"))
def test_sampler_with_one_objective(sampler: Sampler) -> None:
    check_sampler(sampler, SPACES.get(sampler.name), **SLOW.get(sampler.name, {}))


@pytest.mark.parametrize("goals", [DOUBLE, BOUNDED], ids=["two", "bounded"])
@pytest.mark.parametrize("sampler", [one for one in made("sampler") if one.id not in SINGLE_OBJECTIVE])
def test_sampler_with_two_objectives(sampler: Sampler, goals: tuple[Goal, ...]) -> None:
    check_sampler(sampler, SPACES.get(sampler.name), goals, **SLOW.get(sampler.name, {}))


@pytest.mark.parametrize("fingerprint", made("fingerprint"))
def test_fingerprint(fingerprint: Fingerprint) -> None:
    check_fingerprint(fingerprint, Networks(), Blobs(), candidates=3)


@pytest.mark.parametrize("objective", made("objective"))
def test_objective(objective: Objective) -> None:
    space = JUDGED.get(objective.name, Networks())
    check_objective(objective, space, Shape((1, 8, 8), 3), candidates=2)


@pytest.mark.parametrize("strategy", made("parallel strategy"))
def test_parallel_strategy(strategy: ParallelStrategy) -> None:
    check_parallel_strategy(strategy)


@pytest.mark.parametrize("task", made("task"))
def test_task(task: Task) -> None:
    check_task(task)


def test_train() -> None:
    from orchestrate.core.testing import check_program

    program = REGISTRY.create(Program, "train", {"epochs": 2, "batch_size": 16})
    check_program(program, Blobs(), Networks())


def test_tabular() -> None:
    from orchestrate.core.testing import check_program

    space = REGISTRY.create(SearchSpace, "nasbench201")
    check_program(REGISTRY.create(Program, "tabular"), Blobs(), space)


def test_synthetic() -> None:
    from orchestrate.core.testing import check_program

    for name in ("hypergrid", "ngrams", "hairpins"):
        space = REGISTRY.create(SearchSpace, name)
        check_program(REGISTRY.create(Program, "synthetic"), Blobs(), space)


def test_the_default_space_has_every_type_of_choice() -> None:
    kinds: set[str] = set()
    ExampleSpace().generate(lambda choice: kinds.add(type(choice).__name__) or _last(choice))
    assert kinds == {"Categorical", "Integer", "Real"}


def _last(choice: Any) -> Any:
    return choice.options[-1] if hasattr(choice, "options") else choice.low
