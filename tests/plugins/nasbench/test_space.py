import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from orchestrate.core import Candidate, Shape, SpaceError, enumerate_candidates
from orchestrate.core.testing.spaces import check_space
from orchestrate.core.training.count import flops, parameters
from orchestrate.plugins.nasbench.space import (
    EDGES,
    OPERATIONS,
    NasBench201,
    NasBench201Options,
    choice,
    from_string,
    to_string,
)

CIFAR = Shape((3, 32, 32), 10)
CELLS = st.lists(st.sampled_from(OPERATIONS), min_size=6, max_size=6).map(
    lambda operations: Candidate(dict(zip(map(choice, EDGES), operations, strict=True)))
)

# The benchmark's own strings, with its parameters and multiply-adds on CIFAR-10 (both in millions,
# as its API prints them).
PUBLISHED = [
    (
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|",
        1.073466,
        153.27297,
    ),
    (
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
        1.531546,
        220.11969,
    ),
    (
        "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|avg_pool_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
        0.802426,
        113.95137,
    ),
    ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", 0.073306, 7.78305),
]


def build(text, shape=CIFAR, **options):
    return NasBench201(NasBench201Options(**options)).build(from_string(text), shape)


def cells(**operations):
    """A string of `none`, but for edges like e01="skip_connect"."""
    made = {choice(edge): "none" for edge in EDGES}
    made |= {f"edge_{name[1]}_{name[2]}": value for name, value in operations.items()}
    return to_string(made)


def test_size_is_the_number_of_candidates():
    space = NasBench201()
    candidates = set(enumerate_candidates(space))
    assert len(candidates) == space.size() == 5**6


@pytest.mark.parametrize(("text", "millions", "multiply_adds"), PUBLISHED)
def test_counts_are_the_published_ones(text, millions, multiply_adds):
    with torch.device("meta"):
        model = build(text)
    assert parameters(model) == round(millions * 1e6)
    # The benchmark adds the classifier's ten biases as multiply-adds.
    assert flops(model, CIFAR.input) == 2 * (round(multiply_adds * 1e6) - 10)


@given(CELLS)
def test_strings_go_both_ways(candidate):
    assert from_string(to_string(candidate)) == candidate


def test_a_published_string_reads_as_its_edges():
    candidate = from_string(PUBLISHED[0][0])
    assert candidate["edge_0_3"] == "skip_connect"
    assert candidate["edge_1_3"] == "nor_conv_3x3"
    assert candidate["edge_2_3"] == "nor_conv_1x1"
    assert to_string(candidate) == PUBLISHED[0][0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (PUBLISHED[0][0].replace("nor_conv_1x1", "conv_1x1"), "Did you mean 'nor_conv_1x1'"),
        (PUBLISHED[0][0][:-1], "is no NAS-Bench-201 cell"),
        (PUBLISHED[0][0].replace("~2", "~1"), "is no NAS-Bench-201 cell"),
        ("|none~0|", "is no NAS-Bench-201 cell"),
        ("", "is no NAS-Bench-201 cell"),
    ],
)
def test_other_strings_are_refused(text, says):
    with pytest.raises(SpaceError, match=says):
        from_string(text)


def body(text):
    """The first cell of a network of width 4, in eval mode."""
    torch.manual_seed(0)
    return build(text, width=4, depth=1).eval().blocks[0]


@torch.no_grad()
def test_a_cell_sums_what_its_edges_bring():
    inputs = torch.randn(2, 4, 8, 8)
    skip, pool = "skip_connect", "avg_pool_3x3"
    pooled = nn.functional.avg_pool2d(inputs, 3, 1, 1, count_include_pad=False)
    assert torch.equal(body(cells())(inputs), torch.zeros_like(inputs))
    assert torch.equal(body(cells(e03=skip))(inputs), inputs)
    assert torch.equal(body(cells(e03=pool))(inputs), pooled)
    assert torch.equal(body(cells(e01=skip, e02=skip))(inputs), torch.zeros_like(inputs))
    # Paths from 0 to 3 over skips: 03, 013, 023, 0123.
    every = body(to_string({choice(edge): skip for edge in EDGES}))
    assert torch.equal(every(inputs), 4 * inputs)
    both = body(cells(e01=skip, e12=pool, e23=skip, e03=skip))
    assert torch.allclose(both(inputs), pooled + inputs)


@torch.no_grad()
@pytest.mark.parametrize("kernel", [1, 3])
def test_a_convolution_is_relu_convolution_batchnorm(kernel):
    cell = body(cells(e03=f"nor_conv_{kernel}x{kernel}"))
    inputs = torch.randn(2, 4, 8, 8)
    kinds = {type(part): part for part in cell.modules()}
    convolution, norm = kinds[nn.Conv2d], kinds[nn.BatchNorm2d]
    assert convolution.bias is None
    assert norm.affine
    assert norm.eps == 1e-5
    expected = norm(nn.functional.conv2d(inputs.relu(), convolution.weight, padding=kernel // 2))
    assert torch.allclose(cell(inputs), expected)


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 28, 28), (1, 7, 5), (1, 1, 1)])
def test_any_input_shape_is_served(shape):
    model = build(PUBLISHED[0][0], Shape(shape, 7), width=4, depth=2)
    logits = model(torch.randn(3, *shape))
    assert logits.shape == (3, 7)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_width_and_depth_shape_the_network():
    model = build(PUBLISHED[0][0], width=6, depth=2)
    assert model.stem[0].out_channels == 6
    assert model.classifier.in_features == 24
    assert len(model.blocks) == 3 * 2 + 2


def test_the_contract_of_spaces():
    check_space(NasBench201(NasBench201Options(width=4, depth=1)), Shape((1, 8, 8), 10))
