import pytest
import torch

from orchestrate.core import Candidate, TrialError, TrialPruned
from orchestrate.core.errors import UnknownPluginError
from orchestrate.core.testing.trial import LocalTrial
from orchestrate.core.training.data import mixed
from orchestrate.core.training.learner import SupervisedLearner
from orchestrate.core.training.loop import Trainer
from orchestrate.core.training.options import TrainingOptions
from orchestrate.core.training.score import score
from tests.core.training.networks import Blobs, Convolutions, one_thread

__all__ = ["one_thread"]  # a fixture

BATCH = Candidate({"norm": "batch"})
AUGMENT = {"shift": 1, "flip": True, "cutout": 2}

pytestmark = pytest.mark.usefixtures("one_thread")


def options(**changes):
    return TrainingOptions.model_validate(
        {"epochs": 4, "batch_size": 32, "schedule": {"warmup": 0.2}, **changes}
    )


def trial(folder, **changes):
    return LocalTrial(BATCH, Convolutions(), Blobs(), folder, **{"seed": 5, **changes})


def train(context, chosen):
    model = context.build()
    metrics = Trainer(context, SupervisedLearner(context, model, chosen), chosen).run()
    return model, metrics


@pytest.mark.parametrize(("optimizer", "seed"), [("sgd", 1), ("sgd", 2), ("adam", 1), ("adamw", 2)])
def test_training_learns(tmp_path, optimizer, seed):
    rate = 0.1 if optimizer == "sgd" else 0.02
    context = trial(tmp_path, seed=seed)
    model, metrics = train(context, options(optimizer=optimizer, learning_rate=rate, epochs=8))
    assert metrics["accuracy"] > 0.9
    assert [step for step, _ in context.reports] == list(range(1, 9))
    assert context.reports[-1][1] == metrics
    assert context.reports[0][1]["train_loss"] > metrics["train_loss"]
    validation = score(model, context.task.split("validation"), context.device)
    assert validation == {name: metrics[name] for name in ("accuracy", "loss")}


@pytest.mark.parametrize(("optimizer", "stop"), [("sgd", 1), ("adam", 2), ("adamw", 3), ("sgd", 4)])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path, optimizer, stop):
    """To the bit: weights, statistics, metrics; whatever else draws random numbers meanwhile."""
    chosen = options(optimizer=optimizer, augment=AUGMENT, label_smoothing=0.1, clip=1.0)
    whole, expected = train(trial(tmp_path / "whole"), chosen)

    class Killed(BaseException):
        pass

    class Stopping(LocalTrial):
        def checkpoint(self, state):
            super().checkpoint(state)
            if state["epoch"] == stop:
                raise Killed

    first = Stopping(BATCH, Convolutions(), Blobs(), tmp_path / "part", seed=5)
    with pytest.raises(Killed):
        train(first, chosen)
    torch.manual_seed(12345)
    second = trial(tmp_path / "part")
    resumed, metrics = train(second, chosen)
    assert [step for step, _ in second.reports] == list(range(stop + 1, 5))
    assert metrics == expected
    states = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_training_leaves_the_callers_random_numbers_alone(tmp_path):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    train(trial(tmp_path), options(epochs=1, augment=AUGMENT))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_another_seed_is_another_training(tmp_path):
    first = train(trial(tmp_path / "1", seed=1), options(epochs=1))[1]
    second = train(trial(tmp_path / "2", seed=2), options(epochs=1))[1]
    assert first["train_loss"] != second["train_loss"]


def test_the_rate_follows_the_schedule_by_step(tmp_path):
    context = trial(tmp_path)
    chosen = options(schedule={"name": "linear"}, learning_rate=0.2)
    train(context, chosen)
    rates = [metrics["learning_rate"] for _, metrics in context.reports]
    assert rates == pytest.approx([0.2 * (1 - step / 20) for step in (4, 9, 14, 19)])


def test_clipping_bounds_every_step(tmp_path):
    norms = []

    class Watching(SupervisedLearner):
        def begin(self, epoch, step):
            super().begin(epoch, step)
            grads = [p.grad for p in self.model.parameters() if p.grad is not None]
            if grads:
                norms.append(float(torch.cat([grad.flatten() for grad in grads]).norm()))

    context, chosen = trial(tmp_path), options(clip=0.01)
    Trainer(context, Watching(context, context.build(), chosen), chosen).run()
    assert max(norms) == pytest.approx(0.01, rel=1e-3)


def test_a_diverging_training_names_epoch_and_step(tmp_path):
    class Exploding(LocalTrial):
        def gradient(self, learner, samples):
            loss = super().gradient(learner, samples)
            return loss if learner._step < 7 else float("nan")

    context = Exploding(BATCH, Convolutions(), Blobs(), tmp_path)
    with pytest.raises(TrialError, match="loss is nan in epoch 2, step 3 of 5"):
        train(context, options())


def test_pruning_passes_through(tmp_path):
    context = trial(tmp_path, prune_at=2)
    with pytest.raises(TrialPruned):
        train(context, options())
    assert len(context.reports) == 2


def test_an_unknown_schedule_is_said_before_training(tmp_path):
    context = trial(tmp_path)
    with pytest.raises(UnknownPluginError, match="Did you mean 'cosine'"):
        train(context, options(schedule={"name": "cosin"}))


def test_random_layers_are_keyed_by_step_and_samples(tmp_path):
    """Two workers given the same chunk compute the same sum, dropout and all."""
    context, chosen = trial(tmp_path), options(augment=AUGMENT)
    model = context.build()
    learner = SupervisedLearner(context, model, chosen)
    samples = torch.arange(40, 60)

    def loss(step, chunk=samples):
        learner.begin(step // 5, step)
        return float(learner.loss_sum(chunk).detach())

    first = loss(3)
    torch.manual_seed(99)
    assert loss(3) == first
    assert loss(4) != first


def test_scoring_puts_the_modes_back_and_counts_every_sample(tmp_path):
    context = trial(tmp_path)
    model, split = context.build(), context.task.split("validation")
    model[1].eval()
    whole = score(model, split, context.device)
    parts = score(model, split, context.device, batch_size=7)
    assert parts["accuracy"] == whole["accuracy"]
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    assert model.training
    assert not model[1].training


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("native", [True, False])
def test_training_in_half_precision_learns(tmp_path, monkeypatch, native):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    context = trial(tmp_path, device="cuda")
    _, metrics = train(context, options(epochs=8))
    assert metrics["accuracy"] > 0.9


def test_mixed_images_have_mixed_labels(tmp_path):
    context = trial(tmp_path)
    chosen = options(mixup=0.4)
    learner = SupervisedLearner(context, context.build(), chosen)
    plain = SupervisedLearner(context, context.build(), options())
    at = torch.arange(60)
    inputs, targets = learner.batch(at)
    images, labels = plain.batch(at)
    classes = context.task.shape().classes
    assert targets.shape == (60, classes)
    assert torch.allclose(targets.sum(1), torch.ones(60))
    assert not torch.equal(inputs, images)
    everything = context.task.split("train").inputs
    apart = [i for i in range(60) if 0.05 < targets[i, labels[i]] < 0.95]
    assert len(apart) > 10
    for index in apart[:10]:  # what is mixed in is another training image, to the labels' share
        share = targets[index, labels[index]]
        other = (inputs[index] - share * images[index]) / (1 - share)
        assert (everything - other).flatten(1).abs().amax(1).min() < 1e-3
    part = learner.batch(at[20:30])
    assert torch.equal(part[0], inputs[20:30])
    assert torch.equal(part[1], targets[20:30])
    learner.begin(1, 0)
    assert not torch.equal(learner.batch(at)[0], inputs)


def test_training_learns_from_mixed_images(tmp_path):
    _, metrics = train(trial(tmp_path), options(mixup=0.2, epochs=8, label_smoothing=0.1))
    assert metrics["accuracy"] > 0.9


def test_mixing_shares_are_beta_distributed():
    _, shares = mixed(torch.arange(20_000), 500, seed=1, epoch=0, alpha=0.5)
    partners, _ = mixed(torch.arange(20_000), 500, seed=1, epoch=0, alpha=0.5)
    assert partners.min() >= 0
    assert partners.max() == 499
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(shares.var()) == pytest.approx(1 / 8, abs=0.005)  # 1 / (4 (2 alpha + 1))
