from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orchestrate.core import DataError, Shape
from orchestrate.plugins.tasks._images import Images, ImageTask, _normalised, _tables

SPLITS = ("train", "validation", "test")


def images(seed: int, count: int, channels: int = 2) -> Images:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (count, channels, 3, 4), dtype=np.uint8)
    return Images(pixels, random.integers(0, 2, count))


class Noise(ImageTask):
    name = "noise"
    summary = "random pictures"
    reads = 0
    names = ("quiet", "loud")

    def __init__(self, **changes):
        super().__init__()
        self.data = {name: images(index, 5 - index) for index, name in enumerate(SPLITS)} | changes

    def shape(self):
        return Shape((2, 3, 4), 2)

    def class_names(self):
        return self.names

    def read(self):
        self.reads += 1
        return self.data


@given(st.integers(0, 1000), st.integers(1, 30), st.sampled_from([1, 3]))
def test_normalising_agrees_with_numpy_on_every_channel(seed, count, channels):
    pixels = images(seed, count, channels).pixels
    inputs = _normalised(pixels, _tables(pixels))
    mean = pixels.mean((0, 2, 3), keepdims=True)
    std = pixels.std((0, 2, 3), keepdims=True)
    assert inputs.dtype == np.float32
    np.testing.assert_allclose(inputs, (pixels - mean) / std, atol=1e-5)


def test_a_constant_channel_becomes_zero():
    pixels = np.full((3, 1, 2, 2), 7, dtype=np.uint8)
    assert (_normalised(pixels, _tables(pixels)) == 0).all()


def test_the_train_split_alone_sets_the_scale():
    other = Noise(validation=images(9, 4), test=images(8, 3))
    assert torch.equal(Noise().split("train").inputs, other.split("train").inputs)
    train = Noise().split("train").inputs
    torch.testing.assert_close(train.mean((0, 2, 3)), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(train.std((0, 2, 3), correction=0), torch.ones(2))
    # The same pixels come out otherwise when another train split sets the scale.
    moved = Noise(train=images(7, 5))
    assert not torch.equal(Noise().split("test").inputs, moved.split("test").inputs)


def test_splits_have_the_promised_types_and_are_read_once():
    task = Noise()
    for name, count in zip(SPLITS, (5, 4, 3), strict=True):
        split = task.split(name)
        assert split.inputs.shape == (count, 2, 3, 4)
        assert split.inputs.dtype == torch.float32
        assert split.targets.shape == (count,)
        assert split.targets.dtype == torch.int64
        assert task.split(name) is split
    task.digest()
    assert task.reads == 1


def changed(name: str, what: str) -> Noise:
    task = Noise()
    old = task.data[name]
    pixels, labels = old.pixels.copy(), old.labels.copy()
    if what == "pixel":
        pixels[0, 0, 0, 0] ^= 1
    elif what == "label":
        labels[0] ^= 1
    else:
        pixels, labels = pixels[::-1], labels[::-1]
    task.data[name] = Images(pixels, labels)
    return task


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize("what", ["pixel", "label", "order"])
def test_the_digest_sees_any_change(name, what):
    assert Noise().digest() == Noise().digest()
    assert changed(name, what).digest() != Noise().digest()


def test_the_digest_sees_samples_that_move_between_splits_and_classes_renamed():
    both = images(0, 5)
    a = Noise(validation=both[np.arange(2)], test=both[np.arange(2, 5)])
    b = Noise(validation=both[np.arange(3)], test=both[np.arange(3, 5)])
    assert a.digest() != b.digest()
    renamed = Noise()
    renamed.names = ("loud", "quiet")
    assert renamed.digest() != Noise().digest()


@pytest.mark.parametrize("name", SPLITS)
def test_an_empty_split_is_an_error_that_names_it(name):
    with pytest.raises(DataError, match=f"the {name} split is empty; there are .* samples in all"):
        Noise(**{name: images(0, 0)}).split("train")


def test_a_pickled_task_leaves_its_data_behind():
    task = Noise()
    digest = task.digest()
    copy = pickle.loads(pickle.dumps(task))
    assert not {"_splits", "_digest"} & vars(copy).keys()
    assert copy.digest() == digest
