"""The plugins keep the contracts of their kinds, and Orchestrate finds them."""

from __future__ import annotations

from pathlib import Path

from mlp_example import HillClimbing, Mlp, Naswot, WeightBytes

from orchestrate.core import Shape, Task, load
from orchestrate.core.registry import Registry
from orchestrate.core.testing import check_objective, check_program, check_sampler, check_space

SHAPE = Shape(input=(1, 8, 8), classes=10)


def test_space() -> None:
    """Walks, sizes, replays and networks."""
    check_space(Mlp(), SHAPE)


def test_objective() -> None:
    """Finite and deterministic."""
    check_objective(WeightBytes(), Mlp(), SHAPE)


def test_sampler() -> None:
    """Seeded, and restored from its log."""
    check_sampler(HillClimbing())


def test_program() -> None:
    """Seeded, and blind to the test split."""
    check_program(Naswot(), Registry.discover().create(Task, "digits"), Mlp())


def test_found_through_the_entry_point() -> None:
    """Installing the package is enough."""
    registry = Registry.discover()
    assert registry.get("space", "mlp").source.distribution == "orchestrate-mlp-example"


def test_the_job_file_is_right() -> None:
    """Every key and name in it is known."""
    job = load(Path(__file__).parents[1] / "job.yaml", Registry.discover())
    assert job.stages[0].batch == 1  # a hill climber learns from every result
