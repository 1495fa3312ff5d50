from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from orchestrate.core import DataError, Shape
from orchestrate.plugins.tasks import FashionMNIST, fashion_mnist
from orchestrate.plugins.tasks.fashion_mnist import DEBIAN, FILES

TRAIN, TEST = 200, 30


def write_idx(path: Path, array: np.ndarray) -> None:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    data = head + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_all(folder: Path, suffix: str = "", **changes: np.ndarray) -> Path:
    """Four small files; the first two pixels of a picture hold its number."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = []
    for count in (TRAIN, TEST):
        pixels = np.zeros((count, 28, 28), np.uint8)
        pixels[:, 0, 0] = np.arange(count) % 256
        arrays += [pixels, (np.arange(count) % 10).astype(np.uint8)]
    for name, array in zip(FILES, arrays, strict=True):
        write_idx(folder / (name + suffix), changes.get(name.replace("-", "_"), array))
    return folder


def task(folder: Path | None = None, **options) -> FashionMNIST:
    data = {"data_dir": folder, "validation": 50, **options}
    return FashionMNIST(FashionMNIST.Options.model_validate(data))


@pytest.fixture
def folder() -> Path:
    return write_all(Path("fashion"))


def test_shape_and_classes_need_no_data():
    absent = task(Path("absent"))
    assert absent.shape() == Shape((1, 28, 28), 10)
    assert absent.class_names()[9] == "Ankle boot"


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_plain_and_gzipped_files_are_the_same_task(folder, suffix):
    other = write_all(Path("other"), suffix)
    assert task(other).digest() == task(folder).digest()


@pytest.mark.parametrize("seed", [0, 1])
def test_validation_is_carved_out_of_the_training_images_in_proportion(folder, seed):
    made = task(folder, seed=seed)
    sizes = {name: len(made.split(name).targets) for name in ("train", "validation", "test")}
    assert sizes == {"train": 150, "validation": 50, "test": TEST}
    assert torch.bincount(made.split("validation").targets).tolist() == [5] * 10
    both = torch.cat([made.split("train").inputs, made.split("validation").inputs])
    assert len(both[:, 0, 0, 0].unique()) == TRAIN  # all there, none twice


def test_the_seed_decides_who_validates(folder):
    held = [task(folder, seed=seed).split("validation").inputs for seed in (0, 0, 1)]
    assert torch.equal(held[0], held[1])
    assert not torch.equal(held[0], held[2])


def test_a_fraction_is_a_count(folder):
    assert task(folder, validation=0.25).digest() == task(folder, validation=50).digest()


def test_a_subset_is_stratified_and_leaves_validation_and_test_whole(folder):
    whole, part = task(folder), task(folder, subset=47)
    counts = torch.bincount(part.split("train").targets)
    assert counts.sum() == 47
    assert set(counts.tolist()) == {4, 5}
    for name in ("validation", "test"):
        assert torch.equal(part.split(name).targets, whole.split(name).targets)


def test_validation_and_subset_may_use_up_everything(folder):
    made = task(folder, validation=55, subset=145)
    assert [len(made.split(name).targets) for name in ("train", "validation")] == [145, 55]


def test_a_larger_subset_holds_the_smaller(folder):
    picked = {}
    for subset in (40, 60):
        read = task(folder, subset=subset).read()
        picked[subset] = set(read["train"].pixels[:, 0, 0, 0].tolist())
    assert len(picked[40]) == 40
    assert picked[40] < picked[60]


@pytest.mark.parametrize("options", [{"validation": 200}, {"validation": 150, "subset": 51}])
def test_more_images_than_there_are_is_an_error(folder, options):
    with pytest.raises(DataError, match=r"there are 200: lower `validation` or `subset`"):
        task(folder, **options).split("train")


@pytest.mark.parametrize("wrong", [{"validation": 0}, {"validation": 1.5}, {"subset": 0}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValidationError):
        task(**wrong)


# Where the files are --------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "fashion-mnist"])
def test_the_variable_names_a_folder_of_data(monkeypatch, below):
    write_all(Path("data") / below)
    monkeypatch.setenv("ORCHESTRATE_DATA", "data")
    assert len(task().split("test").targets) == TEST


def test_the_option_goes_before_the_variable(monkeypatch, folder):
    monkeypatch.setenv("ORCHESTRATE_DATA", str(folder))
    with pytest.raises(DataError, match=r"elsewhere: no such folder"):
        task(Path("elsewhere")).split("train")


def test_missing_files_are_named_with_every_folder_and_the_remedy(monkeypatch):
    folder = write_all(Path("data"), ".gz")
    (folder / (FILES[1] + ".gz")).unlink()
    monkeypatch.setenv("ORCHESTRATE_DATA", "data")
    monkeypatch.setattr(fashion_mnist, "DEBIAN", Path("debian"))
    Path("debian").mkdir()
    with pytest.raises(DataError) as caught:
        task().split("train")
    text = str(caught.value)
    for name in FILES:
        assert name in text
    assert f"  data: lacks {FILES[1]}\n" in text
    assert "  data/fashion-mnist: no such folder\n" in text
    assert "  debian: lacks all four\n" in text
    assert "apt install dataset-fashion-mnist" in text
    assert "`data_dir`" in text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({FILES[0]: np.zeros((TRAIN, 32, 32), np.uint8)}, r"pictures of \(32, 32\) pixels"),
        ({FILES[1]: np.zeros(TRAIN - 1, np.uint8)}, "200 pictures but .* 199 labels"),
        ({FILES[3]: np.full(TEST, 10, np.uint8)}, "the label 10: 0 to 9"),
    ],
)
def test_files_that_do_not_fit_are_refused(changes, says):
    changes = {name.replace("-", "_"): array for name, array in changes.items()}
    with pytest.raises(DataError, match=says):
        task(write_all(Path("fashion"), **changes)).split("train")


# The real files -------------------------------------------------------------------------


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist isn't installed")
def test_debians_files_are_found_and_are_fashion_mnist():
    made = FashionMNIST()
    assert {name: len(made.split(name).targets) for name in ("train", "validation", "test")} == {
        "train": 50_000,
        "validation": 10_000,
        "test": 10_000,
    }
    for name, count in {"train": 5000, "validation": 1000, "test": 1000}.items():
        assert torch.bincount(made.split(name).targets).tolist() == [count] * 10
    # Published for the official 60,000: mean 0.2860, deviation 0.3530 (of 255).
    low = made.split("train").inputs.min().item()
    high = made.split("train").inputs.max().item()
    assert -low / (high - low) == pytest.approx(0.2860, abs=0.001)
    assert 1 / (high - low) == pytest.approx(0.3530, abs=0.001)
    assert made.digest() == "afed25f05f5f97d4c6bd4efe2271f548"
