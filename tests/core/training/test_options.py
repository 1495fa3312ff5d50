import pytest
from pydantic import ValidationError

from orchestrate.core.registry import Registry, Source
from orchestrate.core.training.options import TrainingOptions
from orchestrate.plugins import programs


@pytest.fixture(scope="module")
def context():
    source = Source("programs", "orchestrate.plugins.programs", "here", "0")
    return {"registry": Registry([(source, lambda: programs)])}


def test_defaults_are_valid():
    assert TrainingOptions().schedule.name == "cosine"


def test_a_schedule_keeps_its_own_options(context):
    options = TrainingOptions.model_validate(
        {"schedule": {"name": "cosine-power", "power": 10}}, context=context
    )
    assert options.schedule.options == {"power": 10}


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        ({"name": "cosin"}, "Did you mean 'cosine'"),
        ({"name": "cosine", "warmpu": 0.1}, "no option 'warmpu'. Did you mean 'warmup'"),
        ({"name": "cosine", "warmup": "long"}, "not supported between"),
        ({"name": "cosine", "warmup": 5}, "share of the training"),
    ],
)
def test_a_registry_in_the_context_checks_the_schedule(context, schedule, says):
    with pytest.raises(ValidationError, match=says):
        TrainingOptions.model_validate({"schedule": schedule}, context=context)


def test_without_a_registry_the_schedule_may_be_a_strangers():
    assert TrainingOptions.model_validate({"schedule": {"name": "theirs"}}).schedule.name == "theirs"


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"momentum": 1}, {"clip": 0}, {"lr": 0.1}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValidationError):
        TrainingOptions.model_validate(wrong)
