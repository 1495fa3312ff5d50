"""Shared scoring is scoring alone, bit for bit; programs that score, predict, profile and specialise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrate.core import ArtifactError, Candidate, Evaluation, Shape
from orchestrate.core.draw import draw_candidate
from orchestrate.core.seeds import generator
from orchestrate.core.testing import LocalTrial
from orchestrate.plugins.ofa import cost
from orchestrate.plugins.ofa.evaluate import EvaluateSubnet
from orchestrate.plugins.ofa.latency import Bench, LatencyTable, Timing, build_table, key, layers_of
from orchestrate.plugins.ofa.network import Network
from orchestrate.plugins.ofa.options import (
    EvaluateOptions,
    PredictOptions,
    ProfileOptions,
    SpecializeOptions,
)
from orchestrate.plugins.ofa.predict import PredictAccuracy
from orchestrate.plugins.ofa.predictor import Mlp, Predictor, Ridge, quality, unique_candidates
from orchestrate.plugins.ofa.profile import ProfileLatency
from orchestrate.plugins.ofa.scoring import Images, calibrated, score_alone, score_many
from orchestrate.plugins.ofa.specialize import SpecializeSubnet
from orchestrate.plugins.ofa.supernet import save_supernet
from tests.core.training.networks import Blobs
from tests.plugins.ofa.conftest import SPACES, candidates, make_supernet

SHAPE = Shape((1, 6, 6), 4)
SPACE: Any = SPACES[0](SPACES[0].Options(preset="tiny", resolutions=(4, 6), depths=(1, 2)))
IMAGES = Images.of(Blobs(), torch.device("cpu"), calibration=60, calibration_batch=25, batch=30)
SCORING = {"calibration_images": 50, "calibration_batch": 25}


@pytest.fixture
def stages(tmp_path: Path) -> dict[str, dict[str, Path]]:
    save_supernet(make_supernet(SPACE, SHAPE), tmp_path / "supernet.safetensors")
    return {"train": {"supernet": tmp_path / "supernet.safetensors"}}


def trial(folder: Path, stages: Any, candidate: Candidate | None = None, **options: Any) -> LocalTrial:
    return LocalTrial(candidate or Candidate({}), SPACE, Blobs(), folder, seed=1, stages=stages, **options)


@pytest.mark.parametrize("memory", [4.0, 1e-9], ids=["shared", "alone"])
@pytest.mark.parametrize("cls", SPACES, ids=lambda cls: cls.name)
def test_shared_work_changes_no_score(cls: Any, memory: float) -> None:
    supernet = make_supernet(cls(cls.Options(preset="tiny", resolutions=(4, 6))), SHAPE)
    chosen = candidates(supernet.space, 6)
    chosen.append(chosen[0])
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    together = score_many(supernet, chosen, IMAGES, memory=memory)
    alone = [score_alone(calibrated(supernet, candidate, IMAGES), IMAGES) for candidate in chosen]
    assert together == alone
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())


def test_calibration_sees_training_images_alone() -> None:
    train, held = Blobs().split("train").inputs, Blobs().split("validation").inputs
    assert sum(map(len, IMAGES.calibration)) == 60
    for image in torch.cat(IMAGES.calibration):
        assert (train == image).flatten(1).all(1).any()
        assert not (held == image).flatten(1).all(1).any()


def test_evaluate(tmp_path: Path, stages: Any) -> None:
    program = EvaluateSubnet(EvaluateOptions.model_validate({"supernet": "train", **SCORING}))
    program.check(SPACE, Blobs())
    chosen = candidates(SPACE, 3)
    trials = [trial(tmp_path / str(i), stages, one) for i, one in enumerate(chosen)]
    results = list(program.run_batch(trials))
    for one, result in zip(trials, results, strict=True):
        assert isinstance(result, Evaluation)
        assert result.metrics == program.run(one).metrics
        assert result.metrics["macs"] == cost.macs(SPACE.plan(one.candidate, SHAPE))


def test_predict_and_search_on_it(tmp_path: Path, stages: Any) -> None:
    options = {"supernet": "train", "candidates": 24, "epochs": 3, "hidden": [8], **SCORING}
    program = PredictAccuracy(PredictOptions.model_validate(options))
    done = trial(tmp_path / "predict", stages)
    metrics = program.run(done).metrics
    assert metrics["candidates"] == 24
    assert "ridge" in done.artifact("card.md").read_text()
    table = json.loads(done.artifact("accuracies.json").read_text())
    assert len({json.dumps(row["candidate"], sort_keys=True) for row in table["rows"]}) == 24
    assert table["split"] == "validation"
    known = {**stages, "predict": {"predictor.json": done.artifact("predictor.json")}}
    given = {"supernet": "train", "predictor": "predict"}
    evaluate = EvaluateSubnet(EvaluateOptions.model_validate(given))
    found = evaluate.run(trial(tmp_path / "e", known, SPACE.largest)).metrics
    predictor = Predictor.read(done.artifact("predictor.json"), SPACE, SHAPE)
    assert found["accuracy"] == predictor.predict([SPACE.largest])[0]
    with pytest.raises(ArtifactError, match="other options"):
        Predictor.read(done.artifact("predictor.json"), SPACES[0](SPACES[0].Options(preset="tiny")), SHAPE)


def test_predictors_learn() -> None:
    chosen = unique_candidates(SPACE, 150, generator(0))
    truth = [cost.macs(SPACE.plan(one, SHAPE)) / 1e6 for one in chosen]
    options = PredictOptions.model_validate({"supernet": "s", "epochs": 300, "hidden": (64,)})
    import numpy as np

    for predictor in (Mlp(SPACE, SHAPE, options), Ridge(SPACE, SHAPE, 0.1)):
        predictor.fit(chosen[:120], np.array(truth[:120]))
        found = quality(predictor.predict(chosen[120:]), truth[120:])
        assert found["spearman"] > 0.8


def test_quality_of_orderings() -> None:
    perfect = quality([1, 2, 3], [0.1, 0.2, 0.4])
    assert (perfect["spearman"], perfect["kendall"], perfect["pairs"]) == (1.0, pytest.approx(1.0), 1.0)
    assert quality([3, 2, 1], [0.1, 0.2, 0.4])["pairs"] == 0.0
    assert quality([1, 1, 1], [0.1, 0.2, 0.4]) == {
        "spearman": 0.0,
        "kendall": 0.0,
        "pairs": 0.5,
        "rmse": pytest.approx(0.777, abs=1e-3),
    }


class Additive(Bench):
    """A device on which a layer takes as long as it has multiply-accumulates."""

    def layer(self, layer: Any, size: int, norm: Any) -> Timing:
        macs = float(cost.layer_macs(layer, size))
        return Timing(macs, macs, 0.0, 1)


@pytest.mark.parametrize("cls", SPACES, ids=lambda cls: cls.name)
def test_sums_are_exact_on_an_additive_device(cls: Any, tmp_path: Path) -> None:
    space = cls(cls.Options(preset="tiny"))
    table = build_table(space, SHAPE, space.resolutions, Additive())
    table.write(tmp_path / "table.json")
    read = LatencyTable.read(tmp_path / "table.json")
    assert read == table
    for candidate in candidates(space, 20):
        plan = space.plan(candidate, SHAPE)
        assert read.predict(plan) == cost.macs(plan)


def test_a_missing_layer_is_named() -> None:
    plan = SPACE.plan(SPACE.largest, SHAPE)
    layer, size = next(iter(plan.sizes()))
    with pytest.raises(ArtifactError, match=key(layer, size)):
        LatencyTable().predict(plan)


@given(
    st.dictionaries(
        st.text(min_size=1), st.builds(Timing, *[st.floats(0, 1e6)] * 3, st.integers(1, 99)), max_size=3
    )
)
@settings(max_examples=10)
def test_tables_survive_json(tmp_path_factory: Any, rows: dict[str, Timing]) -> None:
    path = tmp_path_factory.mktemp("table") / "table.json"
    LatencyTable(rows, {"device": "cpu"}).write(path)
    assert LatencyTable.read(path) == LatencyTable(rows, {"device": "cpu"})


def test_profile(tmp_path: Path) -> None:
    options = {"warmup": 1, "repeats": 2, "networks": 3, "resolutions": [6]}
    program = ProfileLatency(ProfileOptions.model_validate(options))
    done = trial(tmp_path, {})
    metrics = program.run(done).metrics
    assert metrics["rows"] == len(layers_of(SPACE, SHAPE, [6]))
    table = LatencyTable.read(done.artifact("latencies.json"))
    assert table.facts["threads"] == 1
    assert "whole network" in done.artifact("additivity.md").read_text()
    assert metrics["additivity_error"] >= 0


def test_timing_leaves_the_network_alone() -> None:
    network = Network(SPACE.plan(SPACE.smallest, SHAPE)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    Bench(warmup=1, repeats=1).network(network, network.plan)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("epochs", [0, 1])
def test_specialize(tmp_path: Path, stages: Any, epochs: int) -> None:
    options = {
        "supernet": "train",
        "finetune": {"epochs": epochs},
        "export": ["torch.export", "onnx", "safetensors"] if epochs == 0 else [],
        **SCORING,
    }
    program = SpecializeSubnet(SpecializeOptions.model_validate(options))
    program.check(SPACE, Blobs())
    candidate = draw_candidate(SPACE, generator(3))
    done = trial(tmp_path / "done", stages, candidate)
    metrics = program.run(done).metrics
    assert metrics["max_difference"] == 0.0
    proof = json.loads(done.artifact("proof.json").read_text())
    assert proof["gradient_difference"] == 0.0
    assert proof["digest"] == candidate.digest
    assert (metrics["accuracy"] == metrics["inherited_accuracy"]) or epochs
    if epochs == 0:
        assert proof["exports"].keys() == {"export.safetensors", "export.pt2", "export.onnx"}
        assert max(proof["exports"].values()) < 1e-4
    scored = program.test(trial(tmp_path / "done", stages, candidate, final=True))
    assert 0 <= scored["accuracy"] <= 1


def test_an_exported_network_needs_nothing_of_ours(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from orchestrate.plugins.ofa.export import export

    supernet = make_supernet(SPACE, SHAPE)
    network = supernet.extract(draw_candidate(SPACE, generator(7))).eval()
    inputs = Blobs().split("validation").inputs[:5]
    files = export(network, ["onnx", "torch.export"], tmp_path, inputs[:2])
    with torch.no_grad():
        expected = network(inputs)
        exported = torch.export.load(files["export.pt2"]).module()(inputs)
    session = onnxruntime.InferenceSession(str(files["export.onnx"]))
    (logits,) = session.run(None, {"images": inputs.numpy()})
    assert torch.equal(exported, expected)
    assert torch.allclose(torch.as_tensor(logits), expected, atol=1e-4)
