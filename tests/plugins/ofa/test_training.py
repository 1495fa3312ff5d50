"""Training a supernet: gradients, phases, resuming, and what is done about interference."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrate.core import Candidate, Shape, TrialPruned
from orchestrate.core.parallel import local_gradient
from orchestrate.core.testing import LocalTrial
from orchestrate.core.testing.groups import Meeting
from orchestrate.core.training.checkpoint import load_weights
from orchestrate.core.training.optimizers import make_optimizer
from orchestrate.plugins.ofa.learner import SupernetLearner
from orchestrate.plugins.ofa.mobile import OfaMobileNetV3
from orchestrate.plugins.ofa.options import TrainSupernetOptions
from orchestrate.plugins.ofa.phases import PhaseOptions, resolve
from orchestrate.plugins.ofa.supernet import Supernet, load_supernet, save_supernet
from orchestrate.plugins.ofa.train import TrainSupernet
from orchestrate.plugins.ofa.training import frozen_teacher
from orchestrate.plugins.parallel.all_reduce import AllReduce
from tests.core.training.networks import Blobs
from tests.plugins.ofa.conftest import make_supernet

SPACE = OfaMobileNetV3(
    OfaMobileNetV3.Options(preset="tiny", resolutions=(4, 6), depths=(1, 2), expansions=(2, 3))
)
SHAPE = Shape((1, 6, 6), 4)
PHASES = [
    {"name": "full", "epochs": 1},
    {"name": "kernel", "epochs": 1, "elastic": {"kernel": "all"}, "teacher": "full"},
    {
        "name": "expand",
        "epochs": 2,
        "elastic": {"expand": "all", "depth": "all"},
        "teacher": "full",
        "subnets": 2,
        "sort": ["inner"],
    },
]
FAST = {
    "batch_size": 50,
    "calibration_images": 50,
    "calibration_batch": 25,
    "validation_images": 40,
    "learning_rate": 0.05,
}


def trial(folder: Path, **options: Any) -> LocalTrial:
    return LocalTrial(Candidate({}), SPACE, Blobs(), folder, seed=4, **options)


def program(**options: Any) -> TrainSupernet:
    made = TrainSupernet(TrainSupernetOptions.model_validate({"phases": PHASES, **FAST, **options}))
    made.check(SPACE, Blobs())
    return made


def weights(done: LocalTrial) -> dict[str, torch.Tensor]:
    return load_supernet(SPACE, SHAPE, done.artifact("supernet")).state_dict()


def learner(folder: Path, reduction: Any = "mean", teacher: Supernet | None = None, **options: Any) -> Any:
    [placed] = resolve(SPACE, [PhaseOptions.model_validate({"name": "p", "epochs": 1, **options})])
    torch.manual_seed(0)
    made = SupernetLearner(
        trial(folder),
        Supernet(SPACE, SHAPE),
        placed,
        TrainSupernetOptions.model_validate(FAST),
        reduction=reduction,
        teacher=teacher,
        seed=9,
    )
    made.begin(0, 3)
    return made


def gradients(made: Any) -> dict[str, torch.Tensor]:
    local_gradient(made, torch.arange(32))
    return {
        name: parameter.grad
        for name, parameter in made.model.named_parameters()
        if parameter.grad is not None
    }


def test_equal_subnets_add_up_exactly(tmp_path: Path) -> None:
    # Four equal terms: their sum and mean are exact, being multiples by powers of two.
    once = gradients(learner(tmp_path, sampler="largest"))
    for reduction, factor in (("mean", 1.0), ("sum", 4.0)):
        many = gradients(learner(tmp_path, reduction, sampler="largest", subnets=4))
        assert many.keys() == once.keys()
        for name, gradient in many.items():
            assert torch.allclose(gradient, once[name] * factor, rtol=1e-4, atol=1e-6), name


def test_every_worker_draws_the_same_round(tmp_path: Path) -> None:
    options: dict[str, Any] = {"elastic": {"kernel": "all", "depth": "all", "expand": "all"}, "subnets": 4}
    one, other = learner(tmp_path, **options), learner(tmp_path, **options)
    for step in range(5):
        one.begin(0, step)
        other.begin(0, step)
        assert one.round() == other.round()
    one.begin(0, 1)
    other.begin(0, 2)
    assert one.round() != other.round()


def test_a_teacher_that_agrees_changes_no_gradient(tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = Supernet(SPACE, SHAPE).requires_grad_(False)
    plain = gradients(learner(tmp_path, sampler="largest"))
    taught = gradients(learner(tmp_path, teacher=teacher, sampler="largest"))
    for name, gradient in taught.items():
        assert torch.allclose(gradient, plain[name], atol=1e-5)


@pytest.mark.parametrize("distillation", ["soft", "logits"])
def test_a_teacher_that_disagrees_does(tmp_path: Path, distillation: str) -> None:
    torch.manual_seed(1)
    teacher = Supernet(SPACE, SHAPE).requires_grad_(False)
    options = {"sampler": "largest", "distillation": distillation}
    plain = gradients(learner(tmp_path, **options))
    taught = gradients(learner(tmp_path, teacher=teacher, **options))
    assert any(not torch.allclose(taught[name], plain[name], atol=1e-4) for name in plain)


def test_kernel_matrices_are_never_decayed() -> None:
    supernet = Supernet(SPACE, SHAPE)
    options = TrainSupernetOptions.model_validate({"weight_decay": 0.1})
    groups = make_optimizer(supernet, options, supernet.undecayed()).param_groups
    decayed = {id(one) for group in groups if group["weight_decay"] for one in group["params"]}
    assert not decayed & {id(matrix) for matrix in supernet.matrices.values()}
    assert all((id(one) in decayed) == (one.ndim > 1) for one in supernet.network.parameters())


@pytest.mark.timeout(300)  # five trainings: seconds on a quiet machine
def test_an_interrupted_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = trial(tmp_path / "whole")
    metrics = program().run(whole).metrics
    assert [step for step, _ in whole.reports] == [1, 2, 3, 4]
    for stop in (2, 3):  # at the end of the second phase; in the middle of the last
        folder = tmp_path / f"stopped{stop}"
        with pytest.raises(TrialPruned):
            program().run(trial(folder, prune_at=stop))
        resumed = trial(folder)
        assert program().run(resumed).metrics == metrics
        assert all(torch.equal(tensor, weights(whole)[name]) for name, tensor in weights(resumed).items())
    reports = json.loads(whole.artifact("phases.json").read_text())
    assert [report["name"] for report in reports] == ["full", "kernel", "expand"]
    assert [report["passes"] for report in reports] == [3, 3, 12]
    for report in reports:
        assert report["by_resolution"].keys() == {"4", "6"}
        assert report["by_resolution"]["6"] == report["accuracy"]
        assert report["by_resolution"]["4"].keys() == report["accuracy"].keys()
    assert whole.artifact("phases.svg").stat().st_size > 1000
    largest = Candidate(json.loads(whole.artifact("candidate").read_text()))
    assert largest == SPACE.largest
    load_weights(SPACE.build(largest, SHAPE), whole.artifact("weights"))


def test_a_phase_may_end_with_its_best_weights(tmp_path: Path) -> None:
    def options(epochs: int, keep: str) -> dict[str, Any]:
        return {
            "phases": [{"name": "p", "epochs": epochs, "elastic": {"kernel": "all"}}],
            "learning_rate": 1.0,  # so high that accuracy falls again in the fourth epoch
            "schedule": {"name": "constant"},
            "clip": None,
            "keep": keep,
        }

    whole = trial(tmp_path / "whole")
    metrics = program(**options(4, "best")).run(whole).metrics
    means = [(entry["accuracy_at/4"] + entry["accuracy_at/6"]) / 2 for _, entry in whole.reports]
    [report] = json.loads(whole.artifact("phases.json").read_text())
    assert report["kept"] == means.index(max(means)) + 1 == 3
    assert metrics["accuracy"] == whole.reports[2][1]["accuracy"]
    shorter = trial(tmp_path / "shorter")
    program(**options(3, "last")).run(shorter)
    with pytest.raises(TrialPruned):  # the checkpoint holds the best weights
        program(**options(4, "best")).run(trial(tmp_path / "stopped", prune_at=4))
    resumed = trial(tmp_path / "stopped")
    assert program(**options(4, "best")).run(resumed).metrics == metrics
    for other in (weights(shorter), weights(resumed)):
        assert all(torch.equal(tensor, other[name]) for name, tensor in weights(whole).items())


def test_two_workers_train_what_one_does(tmp_path: Path) -> None:
    # GroupNorm, since BatchNorm normalises over each worker's shard.
    space = OfaMobileNetV3(OfaMobileNetV3.Options(**{**SPACE.options.model_dump(), "norm": "group"}))
    save_supernet(make_supernet(space, SHAPE), tmp_path / "start")
    whole = {"name": "whole", "epochs": 2, "elastic": {"kernel": "all", "depth": "all", "expand": "all"}}
    phases = [{**whole, "teacher": "start", "subnets": 2, "sort": ["inner"]}]

    def train(folder: str, strategy: Any = None) -> dict[str, torch.Tensor]:
        stages = {"first": {"supernet": tmp_path / "start"}}
        done = LocalTrial(
            Candidate(), space, Blobs(), tmp_path / folder, seed=4, stages=stages, strategy=strategy
        )
        program(phases=phases, supernet="first").run(done)
        return load_supernet(space, SHAPE, done.artifact("supernet")).state_dict()

    alone = train("alone")
    ranks = Meeting(2).run(lambda group: train(f"rank{group.rank}", (AllReduce(), group)))
    for name, tensor in alone.items():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        assert torch.allclose(ranks[0][name], tensor, atol=1e-4), name
    start = load_supernet(space, SHAPE, tmp_path / "start").state_dict()
    assert sum(not torch.allclose(tensor, start[name], atol=1e-3) for name, tensor in alone.items()) > 20


def test_a_later_stage_goes_on(tmp_path: Path) -> None:
    first = trial(tmp_path / "first")
    program(phases=PHASES[:1]).run(first)
    stages = {"first": {"supernet": first.artifact("supernet")}}
    second = trial(tmp_path / "second", stages=stages)
    going = [{**PHASES[1], "teacher": "start"}]
    program(phases=going, supernet="first").run(second)
    assert not torch.equal(
        weights(second)["network.layers.stem.conv.weight"], weights(first)["network.layers.stem.conv.weight"]
    )


@pytest.mark.parametrize(("action", "verdict"), [("stop", "stopped"), ("roll-back", "rolled back")])
def test_interference_ends_the_training(tmp_path: Path, action: str, verdict: str) -> None:
    ruinous = [
        PHASES[0] | {"epochs": 3},
        {**PHASES[1], "learning_rate": 500.0, "teacher": None, "epochs": 1},
        PHASES[2],
    ]
    good = trial(tmp_path / "good")
    program(phases=ruinous[:1], clip=None).run(good)
    done = trial(tmp_path / "done")
    program(phases=ruinous, on_interference=action, interference_tolerance=0.1).run(done)
    reports = json.loads(done.artifact("phases.json").read_text())
    assert [report["verdict"] for report in reports] == ["kept", verdict]
    assert reports[-1]["largest_change"] < -0.1
    back = all(torch.equal(tensor, weights(good)[name]) for name, tensor in weights(done).items())
    assert back == (action == "roll-back")


@pytest.mark.parametrize("method", ["sandwich", "warm-start", "scratch-distilled"])
def test_methods_run(tmp_path: Path, method: str) -> None:
    done = trial(tmp_path)
    metrics = program(phases=None, method=method, epochs=1).run(done).metrics
    assert 0 <= metrics["smallest_accuracy"] <= 1
    assert metrics["subnet_passes"] > 0


def test_a_learner_travels(tmp_path: Path) -> None:
    options: dict[str, Any] = {"elastic": {"kernel": "all", "expand": "all"}, "subnets": 2}
    teacher = Supernet(SPACE, SHAPE).requires_grad_(False)
    here = learner(tmp_path, teacher=teacher, **options)
    there = pickle.loads(pickle.dumps(here))
    samples = torch.arange(20)
    assert torch.equal(here.loss_sum(samples), there.loss_sum(samples))


def test_a_teacher_drops_nothing_out() -> None:
    space = OfaMobileNetV3(SPACE.options.model_copy(update={"dropout": 0.5}))
    supernet = make_supernet(space, SHAPE).train()
    teacher = frozen_teacher(supernet, supernet.state_dict()).train()
    inputs = Blobs().split("train").inputs[:20]
    assert not torch.equal(supernet(inputs), supernet(inputs))
    assert torch.equal(teacher(inputs), teacher(inputs))
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_channels_may_be_sorted_by_gradients(tmp_path: Path) -> None:
    done = {ranking: trial(tmp_path / ranking) for ranking in ("taylor", "consumer-l1")}
    for ranking, one in done.items():
        program(importance=ranking).run(one)
    other = weights(done["consumer-l1"])
    assert any(not torch.equal(tensor, other[name]) for name, tensor in weights(done["taylor"]).items())
    with pytest.raises(TrialPruned):
        program(importance="taylor").run(trial(tmp_path / "stopped", prune_at=2))
    resumed = trial(tmp_path / "stopped")
    program(importance="taylor").run(resumed)
    again = weights(resumed)
    assert all(torch.equal(tensor, again[name]) for name, tensor in weights(done["taylor"]).items())
