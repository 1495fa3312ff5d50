import pytest
import torch

from orchestrate.core import Candidate, Registry
from orchestrate.core.errors import TestSplitError
from orchestrate.core.registry import Source
from orchestrate.core.testing.plugins import check_class
from orchestrate.core.testing.trial import LocalTrial
from orchestrate.core.training.options import TrainingOptions
from orchestrate.core.training.score import score
from orchestrate.plugins import programs
from orchestrate.plugins.nasbench.space import NasBench201, NasBench201Options, from_string
from orchestrate.plugins.programs.train import Train
from orchestrate.plugins.tasks.digits import Digits
from tests.core.training.networks import Blobs, Convolutions, one_thread

__all__ = ["one_thread"]  # a fixture

CELL = "|nor_conv_1x1~0|+|skip_connect~0|nor_conv_3x3~1|+|skip_connect~0|avg_pool_3x3~1|skip_connect~2|"


def test_a_run_leaves_weights_that_score_the_test_split(tmp_path):
    program = Train(TrainingOptions(epochs=6, batch_size=32))
    where = (Candidate({"norm": "batch"}), Convolutions(), Blobs(), tmp_path)
    trial = LocalTrial(*where)
    evaluation = program.run(trial)
    assert set(evaluation.metrics) == {"accuracy", "loss", "train_loss", "learning_rate"}
    assert evaluation.metrics["accuracy"] > 0.9
    validation = score(evaluation.model, trial.task.split("validation"), trial.device)
    assert validation["accuracy"] == evaluation.metrics["accuracy"]

    with pytest.raises(TestSplitError):
        program.test(trial)
    tested = program.test(LocalTrial(*where, final=True))
    assert tested == score(evaluation.model, Blobs().split("test"), trial.device)


def test_a_run_is_repeatable(tmp_path):
    def run(folder):
        program = Train(TrainingOptions(epochs=1))
        trial = LocalTrial(Candidate({"norm": "group"}), Convolutions(), Blobs(), tmp_path / folder, seed=3)
        return program.run(trial).metrics

    first = run("a")
    torch.manual_seed(77)
    assert run("b") == first


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("seed", [1, 2])
def test_a_small_cell_learns_digits(tmp_path, seed):
    space = NasBench201(NasBench201Options(width=6, depth=1))
    trial = LocalTrial(from_string(CELL), space, Digits(), tmp_path, seed=seed)
    assert Train(TrainingOptions(epochs=4)).run(trial).metrics["accuracy"] > 0.9


def test_the_hooks_give_program_and_schedules():
    source = Source("programs", "orchestrate.plugins.programs", "here", "0")
    registry = Registry([(source, lambda: programs)])
    assert not registry.failures
    assert registry.get("program", "train").plugin is Train
    assert "cosine-power" in registry.schedules


def test_the_contract_of_plugins():
    check_class(Train)
