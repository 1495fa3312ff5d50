"""Fashion-MNIST: 70,000 grey pictures of clothes, 28x28, in ten classes.

Reads the four IDX files, fetches nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeAlias

import numpy as np
from pydantic import Field

from ...core import DataError, PluginOptions, Shape, SplitName
from ._idx import read_idx
from ._images import Images, ImageTask
from ._splits import Fraction, by_count, deal

VARIABLE = "ORCHESTRATE_DATA"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SHAPE = Shape(input=(1, 28, 28), classes=len(CLASSES))

Count: TypeAlias = Annotated[int, Field(ge=1, strict=True)]


class FashionMNISTOptions(PluginOptions):
    """Options of `fashion-mnist`."""

    data_dir: Path | None = Field(
        None,
        description=f"Folder with the four IDX files, gzipped or not. By default ${VARIABLE}, its "
        f"subfolder fashion-mnist, then {DEBIAN}.",
    )
    validation: Count | Fraction = Field(
        10_000, description="Training images to validate on: how many, or which fraction."
    )
    subset: Count | None = Field(
        None,
        description="Train on only so many of the remaining images, each class in proportion. "
        "Validation and test stay whole.",
    )
    seed: int = Field(0, ge=0, description="Fixes which images validate and which make the subset.")


class FashionMNIST(ImageTask[FashionMNISTOptions]):
    """Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv:1708.07747).

    Inputs are float32 (N, 1, 28, 28), scaled to mean 0 and standard deviation 1 over the train
    split. The test split is the official one (10,000 images); validation is carved out of the
    official 60,000 training images, stratified. The same seed validates on the same images whatever
    the `subset`, and a larger subset holds the smaller.
    """

    name = "fashion-mnist"
    summary = "70,000 pictures of clothes of 28x28 pixels, in ten classes"

    def shape(self) -> Shape:
        return SHAPE

    def class_names(self) -> tuple[str, ...]:
        return CLASSES

    def read(self) -> Mapping[SplitName, Images]:
        train_images, train_labels, test_images, test_labels = _locate(self.options.data_dir)
        official = _read(train_images, train_labels)
        train, validation = self._carve(official)
        return {"train": train, "validation": validation, "test": _read(test_images, test_labels)}

    def _carve(self, official: Images) -> tuple[Images, Images]:
        options, available = self.options, len(official.labels)
        held = options.validation
        held = held if isinstance(held, int) else round(held * available)
        subset = available - held if options.subset is None else options.subset
        if subset < 1 or held + subset > available:
            raise DataError(
                f"task {self.name!r}: {held:,} images to validate on and {max(subset, 1):,} to "
                f"train on, but there are {available:,}: lower `validation` or `subset`"
            )
        sizes = np.bincount(official.labels, minlength=SHAPE.classes)
        held_by_class = by_count(sizes, held)
        kept_by_class = by_count(sizes - held_by_class, subset)
        counts = np.stack([held_by_class, kept_by_class])
        validation, train, _unused = deal(official.labels, counts, options.seed)
        return official[train], official[validation]


def _locate(data_dir: Path | None) -> list[Path]:
    """Find the four files, all in one folder.

    Raises:
        DataError: no folder has them all.
    """
    folders = [data_dir] if data_dir else _default_folders()
    looked: list[str] = []
    for folder in folders:
        found = [_plain_or_gzipped(folder / name) for name in FILES]
        paths = [path for path in found if path is not None]
        if len(paths) == len(FILES):
            return paths
        missing = [name for name, path in zip(FILES, found, strict=True) if path is None]
        lacks = "all four" if len(missing) == len(FILES) else ", ".join(missing)
        state = f"lacks {lacks}" if folder.is_dir() else "no such folder"
        looked.append(f"  {folder}: {state}")
    raise DataError(
        f"the files of Fashion-MNIST aren't there. Looked for {', '.join(FILES)}, each with or "
        "without .gz, in:\n" + "\n".join(looked) + "\n"
        "Install Debian's package (apt install dataset-fashion-mnist), or fetch the four files "
        "from https://github.com/zalandoresearch/fashion-mnist and name their folder in the "
        f"task's option `data_dir` or in ${VARIABLE}"
    )


def _default_folders() -> list[Path]:
    root = os.environ.get(VARIABLE)
    return [*([Path(root), Path(root) / "fashion-mnist"] if root else []), DEBIAN]


def _plain_or_gzipped(path: Path) -> Path | None:
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)


def _read(images: Path, labels: Path) -> Images:
    pixels, targets = read_idx(images, 3), read_idx(labels, 1)
    if pixels.shape[1:] != SHAPE.input[1:]:
        raise DataError(f"{images} has pictures of {pixels.shape[1:]} pixels, not {SHAPE.input[1:]}")
    if len(pixels) != len(targets):
        raise DataError(
            f"{images} has {len(pixels):,} pictures but {labels} {len(targets):,} labels: "
            "they don't belong together"
        )
    if len(targets) and targets.max() >= SHAPE.classes:
        raise DataError(f"{labels} has the label {targets.max()}: 0 to {SHAPE.classes - 1} are right")
    return Images(pixels[:, np.newaxis], targets.astype(np.int64))
