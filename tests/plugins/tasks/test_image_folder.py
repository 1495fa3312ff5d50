from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from orchestrate.core import DataError, Shape
from orchestrate.plugins.tasks import ImageFolder

ROOT = Path("pictures")
SPLITS = ("train", "validation", "test")


def paint(path: Path, value: int | tuple[int, ...], size: tuple[int, int] = (6, 4), mode: str = "RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (value,) * len(mode) if isinstance(value, int) and len(mode) > 1 else value
    Image.new(mode, size, colour).save(path)


def pictures(root: Path = ROOT, cats: int = 10, dogs: int = 15) -> Path:
    """Each picture has a grey of its own."""
    for index in range(cats):
        paint(root / "cat" / f"{index:02}.png", index + 1)
    for index in range(dogs):
        paint(root / "dog" / f"{index:02}.png", index + 101)
    return root


def task(root: Path = ROOT, **options) -> ImageFolder:
    data = {"root": root, "size": 4, "channels": 1, **options}
    return ImageFolder(ImageFolder.Options.model_validate(data))


def greys(made: ImageFolder) -> dict[str, list[int]]:
    return {name: images.pixels[:, 0, 0, 0].tolist() for name, images in made.read().items()}


# Plain class folders --------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_three_stratified_splits_hold_every_picture_once(seed):
    pictures()
    found = greys(task(seed=seed))
    assert sorted(chain(*found.values())) == [*range(1, 11), *range(101, 116)]
    assert {name: len(part) for name, part in found.items()} == {
        "train": 15,
        "validation": 5,
        "test": 5,
    }
    for part in found.values():
        assert sum(grey > 100 for grey in part) == 0.6 * len(part)


def test_labels_follow_the_sorted_class_names():
    pictures()
    made = task()
    assert made.class_names() == ("cat", "dog")
    for name, images in made.read().items():
        assert images.labels.tolist() == [int(grey > 100) for grey in greys(made)[name]]


def test_the_seed_decides_who_is_where():
    pictures()
    assert greys(task(seed=1)) == greys(task(seed=1))
    assert greys(task(seed=1)) != greys(task(seed=2))
    assert task(seed=1).digest() == task(seed=1).digest()
    assert task(seed=1).digest() != task(seed=2).digest()


def test_where_the_folder_lies_does_not_matter_but_its_content_does():
    pictures()
    pictures(Path("copy"))
    assert task().digest() == task(Path("copy")).digest()
    paint(Path("copy/dog/00.png"), 99)
    assert task().digest() != task(Path("copy")).digest()


def test_hidden_and_other_files_are_left_out_and_lower_folders_are_not():
    pictures(cats=3)
    paint(ROOT / "cat" / "more" / "deep.PNG", 4)
    paint(ROOT / "cat" / ".thumbnails" / "1.png", 50)
    paint(ROOT / ".git" / "1.png", 51)
    paint(ROOT / "cat" / ".hidden.png", 52)
    (ROOT / "cat" / "notes.txt").write_text("three cats")
    assert sorted(grey for grey in chain(*greys(task()).values()) if grey < 100) == [1, 2, 3, 4]


def test_shape_reads_no_picture():
    (ROOT / "a").mkdir(parents=True)
    (ROOT / "b").mkdir()
    (ROOT / "b" / "broken.png").write_bytes(b"broken")
    assert task(channels=3, size=[5, 7]).shape() == Shape((3, 5, 7), 2)
    assert task(size=8).shape() == Shape((1, 8, 8), 2)


# Folders of splits ----------------------------------------------------------------------


@pytest.mark.parametrize("validation", ["validation", "val"])
def test_splits_that_are_there_are_taken(validation):
    for index, name in enumerate(("train", validation, "test")):
        for label, kind in enumerate(("cat", "dog")):
            paint(ROOT / name / kind / "1.png", 10 * index + label)
    found = greys(task())
    assert {name: sorted(part) for name, part in found.items()} == {
        "train": [0, 1],
        "validation": [10, 11],
        "test": [20, 21],
    }


@pytest.mark.parametrize(("given", "carved"), [("test", "validation"), ("val", "test")])
def test_a_split_that_is_not_there_is_carved_out_of_train(given, carved):
    pictures(ROOT / "train")
    paint(ROOT / given / "cat" / "1.png", 50)
    made = task(validation=0.4, test=0.4)
    found = greys(made)
    assert len(found["train"]) == 15
    assert len(found[carved]) == 10
    assert sorted(found["train"] + found[carved]) == [*range(1, 11), *range(101, 116)]
    assert made.class_names() == ("cat", "dog")


@pytest.mark.parametrize("kinds", [("train", "bus"), ("train/steam", "bus")])
def test_a_class_may_be_called_train(kinds):
    for index in range(5):
        for kind in kinds:
            paint(ROOT / kind / f"{index}.png", index)
    assert task().class_names() == ("bus", "train")


def test_classes_may_be_called_train_and_test():
    for index in range(5):
        for kind in ("train", "test"):
            paint(ROOT / kind / f"{index}.png", index)
    assert task().class_names() == ("test", "train")


def test_two_validation_folders_are_one_too_many():
    for name in ("train", "validation", "val"):
        paint(ROOT / name / "cat" / "1.png", 1)
    with pytest.raises(DataError, match="both validation/ and val/"):
        task().shape()


def test_a_class_that_is_not_trained_on_is_refused():
    pictures(ROOT / "train")
    paint(ROOT / "test" / "cow" / "1.png", 1)
    with pytest.raises(DataError, match="'cow', which the train split has not; that has cat, dog"):
        task().split("train")


# Pictures -------------------------------------------------------------------------------


def only(path_or_image, **options) -> np.ndarray:
    """Pixels, (C, H, W), of a picture read by the task."""
    for name in SPLITS:
        for kind in ("a", "b"):
            path = ROOT / name / kind / "1.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path_or_image.save(path)
    return task(**options).read()["test"].pixels[0]


def test_colours_keep_their_channels_and_sides_their_order():
    image = Image.new("RGB", (4, 2))
    image.putpixel((3, 1), (10, 20, 30))  # column 3, row 1
    pixels = only(image, channels=3, size=[2, 4])
    assert pixels.shape == (3, 2, 4)
    assert pixels[:, 1, 3].tolist() == [10, 20, 30]
    assert pixels.sum() == 60


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_white_is_white_in_every_mode(mode, channels):
    white = Image.new("RGBA", (4, 4), (255, 255, 255, 255)).convert(mode)
    assert (only(white, channels=channels) == 255).all()


def test_scaling_is_antialiased():
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (16, 8)))
    pixels = only(stripes, size=2)
    assert (np.abs(pixels.astype(int) - 127) < 20).all()


def test_a_photograph_stands_upright():
    image = Image.new("L", (4, 2))
    image.putpixel((0, 0), 255)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by a quarter
    for name in SPLITS:
        for kind in ("a", "b"):
            (ROOT / name / kind).mkdir(parents=True)
            image.save(ROOT / name / kind / "1.png", exif=exif)
    pixels = task(size=[4, 2]).read()["test"].pixels[0, 0]
    assert pixels[0, 1] == 255
    assert pixels.sum() == 255


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_corrupted_picture_is_named(suffix, damage):
    pictures()
    path = ROOT / "cat" / f"broken{suffix}"
    paint(path, 5, size=(64, 64))
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(DataError, match=rf"can't read the picture .*cat/broken{suffix}: "):
        task().split("train")


def test_sixteen_bits_are_refused_rather_than_clipped():
    pictures()
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(ROOT / "cat" / "deep.png")
    with pytest.raises(DataError, match=r"cat/deep.png has more than 8 bits a channel \(mode I;16\)"):
        task().split("train")


# What is wrong with a folder ------------------------------------------------------------


def test_a_missing_root_is_an_error():
    with pytest.raises(DataError, match=r"there is no folder nowhere \(from .*\): correct `root`"):
        task(Path("nowhere")).shape()


def test_one_class_is_no_task():
    paint(ROOT / "cat" / "1.png", 1)
    with pytest.raises(DataError, match="has 1 subfolders"):
        task().shape()


def test_a_class_without_pictures_is_an_error():
    pictures()
    (ROOT / "cow").mkdir()
    with pytest.raises(DataError, match=r"'cow' has no picture to train on\. Known suffixes: \.bmp"):
        task().split("train")


def test_too_few_pictures_for_three_splits_is_an_error():
    pictures(cats=1, dogs=1)
    with pytest.raises(DataError, match=r"the .* split is empty; there are 2 samples in all"):
        task().split("train")


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"size": [4]}, {"channels": 2}, {"validation": 0.6, "test": 0.5}]
)
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValidationError):
        task(**wrong)


def test_the_train_split_is_normalised_by_channel():
    pictures()
    inputs = task(channels=3).split("train").inputs
    torch.testing.assert_close(inputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(inputs.std((0, 2, 3), correction=0), torch.ones(3))
