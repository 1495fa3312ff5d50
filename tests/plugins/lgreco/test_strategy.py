"""The strategy as jobs see it: its contract, its options, its figures, its record and its forecast."""

import json

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from orchestrate.core.registry import Registry, Source
from orchestrate.core.testing import Meeting, check_parallel_strategy
from orchestrate.core.training.precision import Precision
from orchestrate.plugins import lgreco
from orchestrate.plugins.lgreco.record import Record, forecast
from orchestrate.plugins.lgreco.strategy import LGreco, LGrecoOptions
from orchestrate.plugins.lgreco.tally import Phase, Tally

HARD = {"start": 3, "period": 4, "window": 2, "minimum": 64}


class Learner:
    """Least squares by two layers; the second is used for some samples alone."""

    def __init__(self):
        rng = torch.Generator().manual_seed(0)  # not the global one: ranks are threads
        layers = {"body": nn.Linear(24, 16), "rare": nn.Linear(24, 16), "not": nn.Linear(9, 9)}
        self.model = nn.ModuleDict(layers)
        for each in self.model.parameters():
            nn.init.normal_(each, std=0.2, generator=rng)
        self.inputs = torch.randn(64, 24, generator=rng)

    def loss_sum(self, samples):
        total = (self.model["body"](self.inputs[samples]) ** 2).sum()
        first = self.inputs[samples[samples < 8]]
        return total + (self.model["rare"](first) ** 2).sum() if len(first) else total


def strategy(**options):
    return LGreco(LGrecoOptions(**{**HARD, **options}))


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"start": 50}, 1e-9),
        ({"start": 0, "family": "powersgd", "rank": 8, "minimum": 8}, 1e-5),  # as large as the layers
        ({"start": 1, "family": "topk", "density": 0.9, "minimum": 8}, 0.5),
        ({"start": 1, "family": "qsgd", "bits": 8, "minimum": 8, "period": 1, "window": 1}, 0.05),
    ],
)
def test_contract(options, tolerance):
    check_parallel_strategy(strategy(**options), workers=3, tolerance=tolerance)


def test_it_is_found_under_its_name():
    source = Source("lgreco", "orchestrate.plugins.lgreco", "here", "0")
    registry = Registry([(source, lambda: lgreco)])
    assert registry.get("parallel strategy", "l-greco").plugin is LGreco


def test_sessions_of_ranks_stay_together_and_leave_out_what_nobody_used():
    def work(group):
        learner, session = Learner(), strategy().open(group, 5)
        optimizer = torch.optim.SGD(learner.model.parameters(), lr=0.01)
        losses = []
        for step in range(30):
            samples = torch.arange(64) if step % 3 else torch.arange(8, 64)
            losses.append(session.gradient(learner, samples))
            assert learner.model["not"].weight.grad is None
            assert (learner.model["rare"].weight.grad is None) == (step % 3 == 0)
            optimizer.step()
        return losses, [each.detach().clone() for each in learner.model.parameters()], session.metrics()

    (losses, mine, figures), (other, theirs, _) = Meeting(2).run(work)
    assert losses == other
    assert losses[-1] < losses[1] / 3
    assert all(torch.equal(one, same) for one, same in zip(mine, theirs, strict=True))
    assert figures["compression/ratio_now"] > figures["compression/ratio"] > 1
    assert figures["compression/against_uniform"] >= 1
    assert 0 < figures["compression/error_use"] <= 1
    assert figures["compression/bytes_per_step"] < 4 * (24 * 16 + 16) * 2


def test_what_is_owed_is_free_of_the_loss_s_scale():
    """A scale that changes between steps changes nothing."""

    class Scaled(Learner):
        def __init__(self, scales):
            super().__init__()
            self.precision = Precision(torch.device("cpu"), "off")
            self.scales, self.step = scales, -1
            self.precision.scaler = self

        def get_scale(self):
            return self.scales[self.step]

        def loss_sum(self, samples):
            return super().loss_sum(samples) * self.get_scale()

    def work(group, scales):
        learner, session = Scaled(scales), strategy(start=0, family="topk", density=0.1).open(group, 5)
        found = []
        for learner.step in range(len(scales)):
            session.gradient(learner, torch.arange(64))
            found.append(learner.model["body"].weight.grad / learner.get_scale())
        return found

    plain = Meeting(2).run(lambda group: work(group, [1.0] * 8))[0]
    changing = Meeting(2).run(lambda group: work(group, [1.0, 1.0, 1024.0, 1024.0, 512.0, 2.0, 2.0, 1.0]))[0]
    for one, other in zip(plain, changing, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_the_record_is_written_and_read(tmp_path):
    def work(group):
        learner, session = Learner(), strategy().open(group, 5)
        for _ in range(20):
            session.gradient(learner, torch.arange(64))
        return dict(session.artifacts(tmp_path)) if group.rank == 0 else None

    files = Meeting(2).run(work)[0]
    record = Record.read(files["compression"])
    assert [decision.step for decision in record.decisions] == [7, 11, 15, 19]
    assert record.tallies[Phase.DENSE].steps == 3
    assert record.tallies[Phase.UNIFORM].steps == 4
    layer = record.decisions[0].layers[0]
    assert (layer.layer, layer.shape) == ("body.weight", [16, 24])
    assert "body.weight" in files["compression-picture"].read_text() or files[
        "compression-picture"
    ].read_text().startswith("<?xml")


def tell(path, ranks, dense, adapted, steps=40):
    """A record of so many steps, of about these seconds."""
    tallies = {phase: Tally() for phase in Phase}
    for phase, seconds in ((Phase.DENSE, dense), (Phase.ADAPTED, adapted)):
        tallies[phase].seconds = [seconds * (1 + 0.1 * (step % 2)) for step in range(steps)]
        tallies[phase].steps = steps
    path.mkdir(exist_ok=True)
    return Record(ranks, tallies, []).write(path)["compression"]


def test_a_forecast_from_an_earlier_run(tmp_path):
    slow = tell(tmp_path / "slow", 4, dense=1.0, adapted=0.25)
    fast = tell(tmp_path / "fast", 4, dense=0.1, adapted=0.2)
    pays = LGreco().forecast(4, 1, [slow])
    assert (pays.choice, pays.warning) == ("a setting for each layer", "")
    assert pays.gain == pytest.approx(0.75)
    assert pays.interval[0] < 0.75 < pays.interval[1]
    does_not = LGreco().forecast(4, 1, [fast, slow])
    assert does_not.choice == "no compression"
    assert "not expected to pay" in does_not.warning
    assert does_not.gain < 0
    assert forecast(2, [slow]) is None  # of another number of ranks
    assert forecast(4, [tell(tmp_path / "short", 4, 1.0, 0.2, steps=5)]) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"period": 5, "window": 6}, "window"),
        ({"also": ["powersgd"]}, "is the family itself"),
        ({"low": 3.0, "high": 2.0}, "above high"),
        ({"family": "qsgd", "bits": 1}, "bits"),
        ({"density": 0.0}, "density"),
        ({"rank": 0}, "rank"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        LGrecoOptions(**options)


def test_every_option_reaches_the_rules():
    options = LGrecoOptions(
        family="topk",
        density=0.02,
        also=["qsgd"],
        low=0.2,
        high=5,
        mode="accordion-l-greco",
        alpha=0.7,
        metric="l2-squared",
        max_relative_error=0.9,
        objective="time",
        payload="fp16",
        bucket=64,
        feedback=False,
        minimum=10,
        accordion={"gentle": 3.0},
    )
    rules = LGreco(options).rules()
    first, second = rules.ranges
    assert (first.family.name, first.reference, first.low, first.high) == ("topk", 0.02, 0.2, 5)
    assert (first.family.half, first.family.feedback) == (True, False)
    assert (second.family.name, second.family.bucket, second.low, second.high) == ("qsgd", 64, 2, 8)
    assert (rules.planning.alpha, rules.planning.squared, rules.planning.cap) == (0.7, True, 0.9)
    assert (rules.planning.accordion.gentle, rules.timed, rules.minimum) == (3.0, True, 10)
    assert json.loads(options.model_dump_json())["mode"] == "accordion-l-greco"
