"""The spaces and programs keep their kinds' contracts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrate.core import Shape
from orchestrate.core.testing import check_program, check_space
from orchestrate.plugins.ofa.base import OnceForAll
from orchestrate.plugins.ofa.evaluate import EvaluateSubnet
from orchestrate.plugins.ofa.mobile import OfaMobileNetV3
from orchestrate.plugins.ofa.options import (
    EvaluateOptions,
    PredictOptions,
    SpecializeOptions,
    TrainSupernetOptions,
)
from orchestrate.plugins.ofa.predict import PredictAccuracy
from orchestrate.plugins.ofa.specialize import SpecializeSubnet
from orchestrate.plugins.ofa.supernet import save_supernet
from orchestrate.plugins.ofa.train import TrainSupernet
from tests.core.training.networks import Blobs
from tests.plugins.ofa.conftest import make_supernet

SPACE = OfaMobileNetV3(OfaMobileNetV3.Options(preset="tiny", resolutions=(6,), depths=(1, 2)))
SCORING: dict[str, Any] = {"calibration_images": 40, "calibration_batch": 20}
GIVEN = {"supernet": "train", **SCORING}
TABLE = {"candidates": 20, "epochs": 2, "hidden": [8]}
FOLLOWING = (
    EvaluateSubnet(EvaluateOptions.model_validate(GIVEN)),
    PredictAccuracy(PredictOptions.model_validate({**GIVEN, **TABLE})),
    SpecializeSubnet(SpecializeOptions.model_validate({**GIVEN, "finetune": {"epochs": 2}})),
)


def test_spaces(space: OnceForAll) -> None:
    check_space(space, Shape((3, 9, 9), 5), walks=10)


def test_train() -> None:
    phases = [
        {"name": "full", "epochs": 1},
        {"name": "all", "epochs": 1, "elastic": {"depth": "all"}, "teacher": "full"},
    ]
    options = {"phases": phases, "batch_size": 75, **SCORING}
    check_program(TrainSupernet(TrainSupernetOptions.model_validate(options)), Blobs(), SPACE)


@pytest.mark.parametrize("program", FOLLOWING, ids=lambda program: program.name)
def test_what_follows_training(tmp_path: Path, program: Any) -> None:
    save_supernet(make_supernet(SPACE, Shape((1, 6, 6), 4)), tmp_path / "supernet")
    check_program(program, Blobs(), SPACE, stages={"train": {"supernet": tmp_path / "supernet"}})
