"""Slices: what a sub-net computes, what reaches it, and what it leaves alone."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrate.core import ArtifactError, Candidate, Shape
from orchestrate.core.draw import draw_candidate
from orchestrate.core.seeds import generator
from orchestrate.core.training.bn import recalibrate
from orchestrate.plugins.ofa.mobile import OfaMobileNetV3
from orchestrate.plugins.ofa.network import Network, load, save
from orchestrate.plugins.ofa.supernet import (
    Supernet,
    corner,
    load_supernet,
    save_supernet,
)
from tests.plugins.ofa.conftest import (
    SHAPE,
    SPACES,
    TINY,
    TINY_NAMES,
    candidates,
    images,
    make_supernet,
)

MADE = dict(zip(TINY_NAMES, map(make_supernet, TINY), strict=True))
VARIANTS: dict[str, dict[str, Any]] = {
    "group": {"norm": "group"},
    "standardised": {"weight_standardization": True},
    "cropped": {"kernel_transform": False},
}


def outputs(supernet: Supernet, candidate: Candidate, inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return supernet(inputs, candidate)


@pytest.mark.parametrize("name", MADE)
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32), side=st.sampled_from([6, 8]))
def test_extracted_is_the_supernet_exactly(name: str, seed: int, side: int) -> None:
    supernet = MADE[name]
    candidate = draw_candidate(supernet.space, generator(seed))
    network = supernet.extract(candidate)
    ours, theirs = images(side=side).requires_grad_(), images(side=side).requires_grad_()
    one, other = supernet(ours, candidate), network(theirs)
    one.square().sum().backward()
    other.square().sum().backward()
    assert torch.equal(one, other)
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("cls", SPACES, ids=lambda cls: cls.name)
def test_extracted_is_the_supernet_in_every_variant(cls: Any, variant: str) -> None:
    supernet = make_supernet(cls(cls.Options(preset="tiny", **VARIANTS[variant])))
    for candidate in candidates(supernet.space, 3):
        assert torch.equal(outputs(supernet, candidate, images()), supernet.extract(candidate)(images()))


@pytest.mark.parametrize("training", [False, True])
def test_the_largest_is_the_teacher_bit_for_bit(supernet: Supernet, training: bool) -> None:
    space = supernet.space
    torch.manual_seed(5)
    teacher = Network(space.plan(space.largest, SHAPE))
    supernet.network.load_state_dict(teacher.state_dict())
    teacher.train(training)
    supernet.train(training)
    assert torch.equal(supernet(images()), teacher(images()))
    back = supernet.extract(space.largest).state_dict()
    assert back.keys() == teacher.state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in teacher.state_dict().items())


def test_nothing_beyond_the_slice_reaches_the_output(supernet: Supernet) -> None:
    for candidate in candidates(supernet.space, 8):
        expected = outputs(supernet, candidate, images())
        planted = copy.deepcopy(supernet)
        skeleton = planted.skeleton(planted.space.plan(candidate, SHAPE))
        shapes = {name: tensor.shape for name, tensor in skeleton.state_dict().items()}
        with torch.no_grad():
            for name, tensor in planted.network.state_dict().items():
                if not tensor.is_floating_point():
                    continue
                kept = tensor.clone()
                tensor.fill_(torch.nan)
                if name in shapes:
                    shape = shapes[name]
                    if name.endswith("depthwise.conv.weight"):
                        at = name.split(".")[1]
                        _keep_centre(tensor, kept, shape, planted.space.kernels(at))
                    else:
                        corner(tensor, shape).copy_(corner(kept, shape))
        assert torch.isfinite(expected).all()
        assert torch.equal(outputs(planted, candidate, images()), expected)


def _keep_centre(tensor: Any, kept: Any, shape: torch.Size, kernels: tuple[int, ...]) -> None:
    """A smaller kernel is made of the next larger one's centre, through the matrices."""
    full = tensor.shape[-1]
    below = [size for size in kernels if size < full]
    reach = full if shape[-1] == full else below[-1] if below else full
    edge = (full - reach) // 2
    inside = (slice(0, shape[0]), slice(None), slice(edge, edge + reach), slice(edge, edge + reach))
    tensor[inside] = kept[inside]


def with_kernels(space: Any, size: int) -> Candidate:
    genes = {gene.name: size if gene.kind == "kernel" else gene.options[-1] for gene in space.genes}
    return Candidate(genes)


@pytest.mark.parametrize("name", ["ofa-mobilenetv3", "ofa-proxyless"])
def test_matrices_reach_smaller_kernels_alone(name: str) -> None:
    supernet = MADE[name]
    before = {size: outputs(supernet, with_kernels(supernet.space, size), images()) for size in (3, 5, 7)}
    for step, changed in (("5to3", {3}), ("7to5", {3, 5})):
        other = copy.deepcopy(supernet)
        with torch.no_grad():
            for key, matrix in other.matrices.items():
                if key.endswith(step):
                    matrix.add_(0.1)
        found = {
            size
            for size in (3, 5, 7)
            if not torch.equal(outputs(other, with_kernels(other.space, size), images()), before[size])
        }
        assert found == changed


def test_identity_matrices_crop() -> None:
    space = OfaMobileNetV3(OfaMobileNetV3.Options(preset="tiny", kernels=(1, 3, 5)))
    supernet = Supernet(space, SHAPE)
    full = supernet.network.state_dict()["layers.stage1_block1.depthwise.conv.weight"]
    for size, edge in ((1, 2), (3, 1), (5, 0)):
        small = supernet.extract(with_kernels(space, size)).state_dict()
        weight = small["layers.stage1_block1.depthwise.conv.weight"]
        assert torch.equal(weight, full[:, :, edge : 5 - edge, edge : 5 - edge])


def test_gradients_stay_inside_the_slice(supernet: Supernet) -> None:
    supernet.train()
    for candidate in candidates(supernet.space, 3)[1:]:
        supernet.zero_grad()
        supernet(images(8), candidate).square().sum().backward()
        skeleton = supernet.skeleton(supernet.space.plan(candidate, SHAPE))
        shapes = {name: tensor.shape for name, tensor in skeleton.named_parameters()}
        for name, parameter in supernet.network.named_parameters():
            if name not in shapes:
                assert parameter.grad is None, name  # a skipped block: optimisers leave it alone
                continue
            assert parameter.grad is not None
            inside = corner(parameter.grad, (shapes[name][0], *parameter.shape[1:]))
            assert inside.count_nonzero() == parameter.grad.count_nonzero()
            if not name.endswith("depthwise.conv.weight"):
                inside = corner(parameter.grad, shapes[name])
                assert inside.count_nonzero() == parameter.grad.count_nonzero()


def test_passes_share_no_state(supernet: Supernet) -> None:
    one, two = candidates(supernet.space, 2)[2:]
    first = outputs(supernet, one, images())
    outputs(supernet, two, images())
    assert torch.equal(outputs(supernet, one, images()), first)


def test_copies_and_files_compute_the_same(supernet: Supernet, tmp_path: Any) -> None:
    candidate = candidates(supernet.space, 1)[2]
    expected = outputs(supernet, candidate, images())
    save_supernet(supernet, tmp_path / "supernet.safetensors")
    loaded = load_supernet(supernet.space, SHAPE, tmp_path / "supernet.safetensors").eval()
    for other in (copy.deepcopy(supernet), pickle.loads(pickle.dumps(supernet)), loaded):
        assert torch.equal(outputs(other, candidate, images()), expected)
    network = supernet.extract(candidate)
    save(network, tmp_path)
    assert torch.equal(load(tmp_path).eval()(images()), expected)
    apart = (tmp_path / "weights.safetensors").rename(tmp_path / "elsewhere.safetensors")
    assert torch.equal(load(tmp_path, apart).eval()(images()), expected)


def test_another_spaces_weights_are_refused(supernet: Supernet, tmp_path: Any) -> None:
    save_supernet(supernet, tmp_path / "supernet.safetensors")
    with pytest.raises(ArtifactError, match="trained with"):
        load_supernet(supernet.space, Shape((3, 8, 8), 10), tmp_path / "supernet.safetensors")
    (tmp_path / "network.json").write_text("{}")
    with pytest.raises(ArtifactError, match="describe"):
        load(tmp_path)


def test_supernet_and_extracted_gather_the_same_statistics(supernet: Supernet) -> None:
    supernet.train()
    for candidate in candidates(supernet.space, 4)[1:]:
        before = {name: tensor.clone() for name, tensor in supernet.network.state_dict().items()}
        network = supernet.extract(candidate)
        for seed in (1, 2):
            network(images(16, seed=seed))
            supernet(images(16, seed=seed), candidate)
        own = supernet.network.state_dict()
        static = {name: tensor for name, tensor in network.state_dict().items() if "running" in name}
        for name, tensor in static.items():
            assert torch.equal(corner(own[name], tensor.shape), tensor), name
            corner(own[name], tensor.shape).copy_(corner(before[name], tensor.shape))
        for name, tensor in own.items():  # nothing else has changed
            assert torch.equal(tensor, before[name]) or name.endswith("num_batches_tracked"), name


def test_calibrating_twice_is_calibrating_once(supernet: Supernet) -> None:
    batches = [images(16, seed=1), images(8, seed=2)]
    for candidate in candidates(supernet.space, 2)[1:]:
        network = supernet.extract(candidate)
        recalibrate(network, batches)
        once = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        recalibrate(network, batches)
        assert all(torch.equal(tensor, once[name]) for name, tensor in network.state_dict().items())


def test_one_batch_leaves_its_own_statistics() -> None:
    supernet = MADE["ofa-proxyless"]
    network = supernet.extract(supernet.space.largest)
    batch = images(16)
    recalibrate(network, [batch])
    stem = network.get_submodule("layers.stem")
    features = stem.conv(batch)
    assert torch.allclose(stem.norm.running_mean, features.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(stem.norm.running_var, features.var((0, 2, 3), correction=0), rtol=1e-5)


def test_last_scales_start_at_zero_on_request() -> None:
    for cls in SPACES:
        space = cls(cls.Options(preset="tiny", zero_last_scale=True))
        network = space.build(space.largest, SHAPE)
        zeros = [name for name, tensor in network.named_parameters() if tensor.ndim == 1 and not tensor.any()]
        assert any(name.endswith("norm.weight") for name in zeros)
