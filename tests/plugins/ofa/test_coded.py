"""A supernet trained by coded workers: the weights of one process, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrate.core import Candidate, Shape, Split, TrialError
from orchestrate.core.interleave import Interleaver
from orchestrate.core.testing import LocalTrial, LocalWorkers
from orchestrate.plugins.gradient_coding.strategy import GradientCodingOptions, GradientCodingStrategy
from orchestrate.plugins.ofa.mobile import OfaMobileNetV3
from orchestrate.plugins.ofa.options import TrainSupernetOptions
from orchestrate.plugins.ofa.supernet import load_supernet
from orchestrate.plugins.ofa.train import TrainSupernet
from tests.core.training.networks import Blobs
from tests.plugins.gradient_coding.test_session import adversary
from tests.plugins.ofa.test_training import FAST, PHASES

SHAPE = Shape((1, 6, 6), 4)


@pytest.fixture
def double() -> Iterator[None]:
    """Networks and images in double precision; a loss is single precision all the same."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Doubles(Blobs):
    def split(self, name: str) -> Split:
        split = super().split(name)
        return Split(split.inputs.to(torch.get_default_dtype()), split.targets)


def space(norm: str) -> OfaMobileNetV3:
    options = {"preset": "tiny", "resolutions": (4, 6), "depths": (1, 2), "expansions": (2, 3), "norm": norm}
    return OfaMobileNetV3(OfaMobileNetV3.Options.model_validate(options))


def train(folder: Path, norm: str, coding: dict[str, Any] | None) -> tuple[LocalTrial, Any]:
    """Train three phases: the full net, kernels with a teacher, then two sub-nets a step, sorted."""
    trial = LocalTrial(Candidate({}), space(norm), Doubles(), folder, seed=4)
    stream = None
    if coding is not None:
        strategy = GradientCodingStrategy(GradientCodingOptions.model_validate(coding))
        stream = strategy.open(LocalWorkers(4, seconds=adversary(4, 1, 5)), 1)
        trial.interleaver = Interleaver(stream)
    TrainSupernet(TrainSupernetOptions.model_validate({"phases": PHASES, **FAST})).run(trial)
    return trial, stream


def weights(trial: LocalTrial, norm: str) -> dict[str, torch.Tensor]:
    return load_supernet(space(norm), SHAPE, trial.artifact("supernet")).state_dict()


def test_coded_workers_train_the_supernet_of_one_process(tmp_path: Path, double: None) -> None:
    alone, _ = train(tmp_path / "alone", "group", None)
    coded, stream = train(tmp_path / "coded", "group", {"stragglers": 1})
    assert stream.metrics()["workers/rounds"] == 12  # four epochs of three steps, one round each
    assert stream.metrics()["workers/straggler_share"] > 0.1
    expected = weights(alone, "group")
    for name, tensor in weights(coded, "group").items():
        assert torch.allclose(tensor, expected[name], rtol=0, atol=1e-6), name
    for (step, mine), (other, theirs) in zip(coded.reports, alone.reports, strict=True):
        assert step == other
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-6)


def test_batch_norm_is_refused_or_normalises_by_chunk(tmp_path: Path) -> None:
    with pytest.raises(TrialError, match=r"BatchNorm2d in training mode.*batch_norm: per-chunk"):
        train(tmp_path / "refused", "batch", {"stragglers": 1})
    first, _ = train(tmp_path / "first", "batch", {"stragglers": 1, "batch_norm": "per-chunk"})
    again, _ = train(tmp_path / "again", "batch", {"stragglers": 1, "batch_norm": "per-chunk"})
    found = weights(again, "batch")
    for name, tensor in weights(first, "batch").items():
        assert torch.equal(tensor, found[name]), name
