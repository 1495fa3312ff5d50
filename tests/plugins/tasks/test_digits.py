from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from orchestrate.core import Registry, Shape, Task
from orchestrate.plugins.tasks import Digits

SPLITS = ("train", "validation", "test")


def digits(**options) -> Digits:
    return Digits(Digits.Options.model_validate(options))


def test_it_is_installed_under_its_name():
    task = Registry.discover().create(Task, "digits", {"seed": 3})
    assert type(task).__name__ == "Digits"
    assert task.options.seed == 3


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_splits_are_the_whole_data_set_once(seed):
    task = digits(seed=seed)
    parts = [task.split(name) for name in SPLITS]
    inputs = torch.cat([part.inputs for part in parts]).double()
    targets = torch.cat([part.targets for part in parts])
    # Undo the scaling: the darkest and the brightest pixel are 0 and 16.
    low, high = inputs.min(), inputs.max()
    pixels = ((inputs - low) / (high - low) * 16).round().long()
    ours = sorted(zip(pixels.flatten(1).tolist(), targets.tolist(), strict=True))
    data = load_digits()
    theirs = sorted(zip(data.data.astype(int).tolist(), data.target.tolist(), strict=True))
    assert ours == theirs


def test_classes_are_in_proportion_in_every_split():
    task = digits(validation=0.15, test=0.25)
    sizes = np.bincount(load_digits().target)
    for name, fraction in {"train": 0.6, "validation": 0.15, "test": 0.25}.items():
        counts = torch.bincount(task.split(name).targets, minlength=10).numpy()
        assert (np.abs(counts - fraction * sizes) <= 1).all()


def test_the_train_split_has_mean_0_and_deviation_1():
    inputs = digits().split("train").inputs
    assert inputs.shape[1:] == digits().shape().input
    assert abs(inputs.mean()) < 1e-6
    assert abs(inputs.std(correction=0) - 1) < 1e-6


def test_shape_and_classes():
    assert digits().shape() == Shape((1, 8, 8), 10)
    assert digits().class_names() == tuple("0123456789")


def test_the_digest_is_the_same_on_every_machine():
    assert digits().digest() == "b7f620d947d4519774faaa37227acd1d"
    assert digits(seed=1).digest() != digits().digest()
    assert digits(validation=0.1).digest() != digits().digest()
