from __future__ import annotations

import inspect

import pytest

from orchestrate.core import OrchestrateError, errors
from orchestrate.core.errors import Problem, SpecError, TrialPruned, near_misses

CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, BaseException) and cls.__module__ == errors.__name__
]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_says_what_to_do_and_fits_a_builtin(cls: type[BaseException]) -> None:
    assert cls.__doc__
    if cls not in {OrchestrateError, TrialPruned}:
        assert issubclass(cls, OrchestrateError)
        assert any(base.__module__ == "builtins" and base is not Exception for base in cls.__mro__[1:-3])


def test_pruning_is_no_exception_that_a_program_catches() -> None:
    assert not issubclass(TrialPruned, Exception)


def test_a_problem_reads_as_a_sentence() -> None:
    problem = Problem("stages.0.trials", "must be positive", "Give 1 or more.", 7, -3)
    assert str(problem) == "line 7: stages.0.trials: must be positive (got -3). Give 1 or more."
    assert str(Problem("", "is empty")) == "file: is empty."


def test_a_long_value_is_shortened() -> None:
    assert len(str(Problem("a", "is wrong", value="x" * 500))) < 100


def test_a_spec_error_lists_its_problems_under_the_file() -> None:
    error = SpecError("two mistakes:", [Problem("a", "b", line=1), Problem("c", "d")], "job.yaml")
    assert str(error).splitlines() == ["two mistakes:", "  job.yaml, line 1: a: b.", "  job.yaml, c: d."]
    assert isinstance(error, ValueError)


def test_near_misses_come_first_and_all_are_known() -> None:
    assert near_misses("tpee", ["random", "tpe"]) == "Did you mean 'tpe'? Known: random, tpe."
    assert near_misses("zzz", ["b", "a"]) == "Known: a, b."
    assert near_misses("a", []) == "Known: none."
