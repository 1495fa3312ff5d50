import pytest

from orchestrate.core import ArtifactError, Candidate, TrialError, TrialPruned
from orchestrate.core.errors import TestSplitError, UnknownPluginError
from orchestrate.core.testing.trial import LocalTrial
from tests.core.training.networks import Blobs, Convolutions


def trial(folder, **changes):
    return LocalTrial(Candidate({"norm": "batch"}), Convolutions(), Blobs(), folder, **changes)


def test_reports_are_kept_and_checked(tmp_path):
    context = trial(tmp_path)
    context.report({"accuracy": 1}, step=1)
    assert context.reports == [(1, {"accuracy": 1.0})]
    with pytest.raises(TrialError, match="step 2"):
        context.report({"accuracy": float("nan")}, step=2)


def test_it_prunes_when_told(tmp_path):
    context = trial(tmp_path, prune_at=2)
    context.report({"accuracy": 1}, step=1)
    with pytest.raises(TrialPruned):
        context.report({"accuracy": 1}, step=2)


def test_checkpoints_outlive_the_trial(tmp_path):
    assert trial(tmp_path).restore() is None
    trial(tmp_path).checkpoint({"epoch": 3})
    assert trial(tmp_path).restore() == {"epoch": 3}


def test_artifacts(tmp_path):
    source = tmp_path / "source"
    source.write_text("weights")
    context = trial(tmp_path / "trial", stages={"supernet": {"weights": source}})
    context.save_artifact("weights", source)
    assert context.artifact("weights").read_text() == "weights"
    assert context.artifact("weights", stage="supernet") == source
    with pytest.raises(ArtifactError, match="no artifact 'other'"):
        context.artifact("other")
    with pytest.raises(ArtifactError, match="supernet/weights"):
        context.artifact("weights", stage="supernt")


def test_the_test_split_is_closed_until_the_end(tmp_path):
    with pytest.raises(TestSplitError):
        trial(tmp_path).task.split("test")
    assert len(trial(tmp_path, final=True).task.split("test").targets) == 80


def test_schedules_by_name(tmp_path):
    assert trial(tmp_path).schedule("linear", 10)(5) == 0.5
    with pytest.raises(UnknownPluginError, match="'linear'"):
        trial(tmp_path).schedule("liner", 10)


def test_networks_are_built_from_the_seed(tmp_path):
    weights = [trial(tmp_path, seed=seed).build()[0].weight.sum().item() for seed in (1, 1, 2)]
    assert weights[0] == weights[1] != weights[2]
