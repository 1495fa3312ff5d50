import pytest
import torch
from torch.nn import functional

from orchestrate.core.training.losses import cross_entropy_sum, distillation_sum


@pytest.fixture
def logits():
    return torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def teacher():
    return torch.randn(12, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_sums_of_parts_add_up(logits, teacher):
    targets = torch.arange(12) % 5
    for loss, other in ((cross_entropy_sum, targets), (distillation_sum, teacher)):
        parts = loss(logits[:5], other[:5]) + loss(logits[5:], other[5:])
        assert parts == pytest.approx(float(loss(logits, other)), rel=1e-12)


def test_label_smoothing_mixes_in_the_uniform_distribution(logits):
    targets = torch.arange(12) % 5
    logs = torch.log_softmax(logits, 1)
    hard = -logs[torch.arange(12), targets]
    expected = (0.9 * hard - 0.1 * logs.mean(1)).sum()
    assert float(cross_entropy_sum(logits, targets, 0.1)) == pytest.approx(float(expected))


def test_distillation_is_zero_for_the_teacher_itself_and_positive_elsewhere(logits, teacher):
    assert float(distillation_sum(teacher, teacher, 3)) == pytest.approx(0, abs=1e-12)
    assert float(distillation_sum(logits, teacher, 3)) > 0


def test_distillations_gradient_is_the_soft_cross_entropys(logits, teacher):
    student = logits.requires_grad_()
    guide = teacher.requires_grad_()
    distillation_sum(student, guide, 4).backward()
    expected = torch.autograd.grad(
        16 * functional.cross_entropy(student / 4, torch.softmax(teacher / 4, 1), reduction="sum"),
        student,
    )[0]
    assert torch.allclose(student.grad, expected, atol=1e-12)
    assert guide.grad is None
