from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrate.core import Candidate, NoSpace, SpecError
from orchestrate.core.draw import draw_candidate
from orchestrate.core.seeds import generator
from orchestrate.core.testing import check_program
from orchestrate.core.testing.trial import LocalTrial
from orchestrate.plugins.automl_zero.code import Code, Line, canonical, live, read
from orchestrate.plugins.automl_zero.machine import Data, Sizes, run
from orchestrate.plugins.automl_zero.problems import VALIDATION, make
from orchestrate.plugins.automl_zero.program import AutoMLZeroProgram, AutoMLZeroProgramOptions
from orchestrate.plugins.automl_zero.space import AutoMLZero, AutoMLZeroOptions
from tests.core.testing.examples import Blobs

SIZES = Sizes(4, 3, 1, 4)
S, V = "scalar", "vector"

# s2 is the step; v1 the weights. Linear regression by stochastic gradient descent.
GRADIENT_DESCENT = Code(
    (Line("scalar_constant", (S, 2), (), 0.05),),
    (Line("dot", (S, 1), ((V, 0), (V, 1)), None),),
    (
        Line("scalar_subtract", (S, 3), ((S, 0), (S, 1)), None),
        Line("scalar_multiply", (S, 3), ((S, 3), (S, 2)), None),
        Line("vector_scale", (V, 2), ((S, 3), (V, 0)), None),
        Line("vector_add", (V, 1), ((V, 1), (V, 2)), None),
    ),
)


def predictions(code: Code, seed: int = 0, squash: bool = False) -> np.ndarray:
    rng = generator(seed)
    parts = [Data(rng.standard_normal((2, 12, 4)), rng.standard_normal((2, 12))) for _ in range(2)]
    return np.concatenate(run(code, SIZES, *parts, seed=seed, squash=squash), axis=1)


def test_gradient_descent_learns_to_regress() -> None:
    train, valid = make("linear-regression", 3, 500, 4, 0)
    seen, answers = run(GRADIENT_DESCENT, SIZES, train, valid, seed=0)
    assert np.abs(answers - valid.labels).max() < 1e-6
    assert np.abs(seen[:, :10] - train.labels[:, :10]).mean() > 0.5


def test_gradient_descent_tells_digits_apart() -> None:
    train, valid = make("digits", 4, 1000, 8, 0)
    answers = run(GRADIENT_DESCENT, Sizes(4, 3, 1, 8), train, valid, seed=0, squash=True)[1]
    assert np.mean((answers > 0.5) == (valid.labels > 0.5)) > 0.8


def test_the_label_is_hidden_while_predicting() -> None:
    peeking = Code((), (Line("scalar_add", (S, 1), ((S, 0), (S, 0)), None),), ())
    assert not predictions(peeking).any()


def test_a_program_that_diverges_is_stopped() -> None:
    doubling = Code(
        (Line("scalar_constant", (S, 2), (), 1.0),),
        (Line("scalar_exp", (S, 2), ((S, 2),), None), Line("scalar_add", (S, 1), ((S, 2), (S, 2)), None)),
        (),
    )
    assert np.isnan(predictions(doubling)[:, -1]).all()


def test_digits_of_training_and_validation_are_different_ones() -> None:
    train, valid = make("digits", 1, 400, 8, 3)
    seen = {tuple(row) for row in train.inputs[0].round(9).tolist()}
    assert not seen & {tuple(row) for row in valid.inputs[0].round(9).tolist()}
    assert valid.labels.shape == (1, VALIDATION)
    assert set(np.unique(train.labels)) == {0.0, 1.0}


SEEDS = st.integers(0, 10_000)


@given(SEEDS)
def test_dead_lines_make_no_difference(seed: int) -> None:
    code = read(draw_candidate(AutoMLZero(), generator(seed)))
    np.testing.assert_array_equal(predictions(code), predictions(live(code)))


def test_programs_of_one_form_predict_the_same() -> None:
    space = AutoMLZero(
        AutoMLZeroOptions(setup=1, predict=1, learn=1, operations=("dot", "vector_add", "vector_scale"))
    )
    forms: dict[str, list[bytes]] = defaultdict(list)
    for index in range(1500):
        code = read(draw_candidate(space, generator(1, index)))
        forms[repr(canonical(code))].append(predictions(code).tobytes())
    several = [found for found in forms.values() if len(found) > 1]
    assert len(several) > 20
    assert all(len(set(found)) == 1 for found in several)


def test_gradient_descent_in_other_registers_has_the_same_form() -> None:
    def renamed(line: Line) -> Line:
        names = {(S, 2): (S, 3), (S, 3): (S, 2), (V, 1): (V, 2), (V, 2): (V, 1)}
        inputs = tuple(names.get(register, register) for register in line.inputs)
        if line.operation in {"dot", "scalar_multiply"}:
            inputs = tuple(reversed(inputs))
        return Line(line.operation, names.get(line.output, line.output), inputs, line.constant)

    other = Code(
        *(
            tuple(map(renamed, lines))
            for lines in (GRADIENT_DESCENT.setup, GRADIENT_DESCENT.predict, GRADIENT_DESCENT.learn)
        )
    )
    assert other != GRADIENT_DESCENT
    assert canonical(other) == canonical(GRADIENT_DESCENT)


def test_a_program_is_written_readably() -> None:
    assert str(GRADIENT_DESCENT).splitlines()[:4] == [
        "def setup():",
        "    s2 = scalar_constant(0.05)",
        "def predict():",
        "    s1 = dot(v0, v1)",
    ]


@pytest.mark.parametrize("problem", ["linear-regression", "digits"])
def test_contract_of_the_program(problem: str) -> None:
    program = AutoMLZeroProgram(AutoMLZeroProgramOptions(problems=2, examples=10))
    check_program(program, Blobs(), AutoMLZero(AutoMLZeroOptions(problem=problem)))  # type: ignore[arg-type]


def test_a_program_that_does_nothing_has_the_fitness_of_guessing(tmp_path: Path) -> None:
    space = AutoMLZero(AutoMLZeroOptions(problem="digits"))
    nothing = Candidate(
        {
            f"{part}{slot}": "none"
            for part, slots in (("setup", 3), ("predict", 4), ("learn", 6))
            for slot in range(slots)
        }
    )
    metrics = AutoMLZeroProgram().run(LocalTrial(nothing, space, Blobs(), tmp_path)).metrics
    assert 0.35 < metrics["fitness"] < 0.65


def test_it_runs_candidates_of_its_own_space_only() -> None:
    with pytest.raises(SpecError, match="automl-zero, not 'none'"):
        AutoMLZeroProgram().check(NoSpace(), Blobs())


def test_an_unknown_operation() -> None:
    with pytest.raises(ValueError, match="no operation is called matmul"):
        AutoMLZeroOptions(operations=("matmul",))
