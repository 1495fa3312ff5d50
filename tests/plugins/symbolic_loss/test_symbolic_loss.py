from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
import torch

from orchestrate.core import Candidate, NoSpace, Shape, SpecError, enumerate_candidates
from orchestrate.core.draw import draw_candidate
from orchestrate.core.seeds import generator
from orchestrate.core.testing import check_program
from orchestrate.core.testing.trial import LocalTrial
from orchestrate.core.training.options import TrainingOptions
from orchestrate.plugins.functional_hash.fingerprint import FunctionalHash
from orchestrate.plugins.functional_hash.options import FunctionalHashOptions
from orchestrate.plugins.symbolic_loss.expression import evaluate, text, tree
from orchestrate.plugins.symbolic_loss.program import TrainWithLoss
from orchestrate.plugins.symbolic_loss.space import SymbolicLoss, SymbolicLossOptions
from tests.core.testing.examples import Blobs

SPACE = SymbolicLoss()


def expression(*nodes: tuple[str, int] | tuple[str, int, int]) -> Candidate:
    made: dict[str, str | int] = {"nodes": len(nodes)}
    for index, (operation, *operands) in enumerate(nodes):
        made[f"node{index}"] = operation
        for side, operand in zip(("left", "right"), operands, strict=False):
            made[f"node{index}.{side}"] = operand
    return Candidate(made)


SQUARED = expression(("subtract", 0, 1), ("square", 3))  # (prediction - target)^2
MULTIPLIED = expression(("subtract", 1, 0), ("exp", 3), ("multiply", 3, 3))  # the same, with a dead node
CROSS_ENTROPY = expression(("log", 0), ("multiply", 3, 1), ("negate", 4))


def functional(candidate: Candidate) -> str:
    hashing = FunctionalHash(FunctionalHashOptions(isolate=False))
    return hashing.compute(candidate, SPACE, Blobs()).keys[-1].digest


def test_expressions_are_computed_as_written() -> None:
    prediction, target = torch.tensor([0.2, 0.9]), torch.tensor([0.0, 1.0])
    assert text(SQUARED) == "square(subtract(prediction, target))"
    assert torch.allclose(evaluate(SQUARED, prediction, target), torch.tensor([0.04, 0.01]))
    assert torch.allclose(evaluate(CROSS_ENTROPY, prediction, target), -target * prediction.log(), atol=1e-5)


def test_one_function_in_two_writings() -> None:
    assert tree(SQUARED) != tree(MULTIPLIED)
    assert functional(SQUARED) == functional(MULTIPLIED) != functional(CROSS_ENTROPY)


def test_operands_that_can_be_swapped_have_one_form() -> None:
    assert tree(expression(("multiply", 0, 1))) == tree(expression(("multiply", 1, 0)))
    assert tree(expression(("subtract", 0, 1))) != tree(expression(("subtract", 1, 0)))


def test_one_form_is_one_function() -> None:
    forms: dict[str, set[str]] = defaultdict(set)
    for index in range(150):
        candidate = draw_candidate(SymbolicLoss(SymbolicLossOptions(nodes=2)), generator(0, index))
        forms[repr(tree(candidate))].add(functional(candidate))
    assert len(forms) < 150
    assert all(len(keys) == 1 for keys in forms.values())


def test_the_size_is_counted_in_closed_form() -> None:
    space = SymbolicLoss(SymbolicLossOptions(nodes=1))
    assert space.size() == len(list(enumerate_candidates(space))) == 6 * 9 + 6 * 3


def test_contract_of_the_program() -> None:
    check_program(TrainWithLoss(TrainingOptions(epochs=2, batch_size=16)), Blobs(), SPACE)


@pytest.mark.parametrize("loss", [SQUARED, CROSS_ENTROPY], ids=text)
def test_a_sound_loss_trains(loss: Candidate, tmp_path: Path) -> None:
    trial = LocalTrial(loss, SPACE, Blobs(), tmp_path)
    metrics = TrainWithLoss(TrainingOptions(epochs=30, batch_size=16)).run(trial).metrics
    assert metrics["accuracy"] > 0.9


def test_a_loss_that_ignores_the_prediction_trains_nothing(tmp_path: Path) -> None:
    trial = LocalTrial(expression(("square", 1)), SPACE, Blobs(), tmp_path)
    assert TrainWithLoss(TrainingOptions(epochs=1)).run(trial).metrics["accuracy"] < 0.9


def test_it_runs_candidates_of_its_own_space_only() -> None:
    with pytest.raises(SpecError, match="symbolic-loss, not 'none'"):
        TrainWithLoss().check(NoSpace(), Blobs())


def test_the_classifier_fits_the_task() -> None:
    assert SPACE.build(SQUARED, Shape((1, 8, 8), 3))(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
