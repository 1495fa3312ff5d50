"""A task made of one's own pictures: a folder with one subfolder a class.

Which file goes where is decided from the names alone; `_pictures` decodes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field

from ...core import DataError, Shape, SplitName
from ._images import Images, ImageTask
from ._pictures import SUFFIXES, decode
from ._splits import SplitOptions, by_fraction, deal

FOLDERS: Mapping[str, SplitName] = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "test": "test",
}
"""Names of folders that hold a split, and which."""

Files: TypeAlias = list[tuple[Path, int]]
"""Pictures and their labels."""

Side: TypeAlias = Annotated[int, Field(ge=1)]


class ImageFolderOptions(SplitOptions):
    """Options of `image-folder`."""

    root: Path = Field(description="Folder with a subfolder for each class, or train/, test/, ….")
    size: Side | tuple[Side, Side] = Field(
        description="Height and width that every picture is scaled to: one number, or [H, W]."
    )
    channels: Literal[1, 3] = Field(3, description="1 for grey, 3 for red, green, blue.")


class ImageFolder(ImageTask[ImageFolderOptions]):
    """Pictures sorted into class folders, as `root/cat/1.jpg`; classes are numbered by name.

    Where `root` holds nothing but `train/` and `test/`, `validation/` or `val/`, each with class
    folders, those splits are taken as they are, and a missing one is carved out of `train/`.
    Otherwise all three are carved out, stratified, by the seed.

    Pictures in folders below a class folder count; hidden files, and files whose suffix names no
    picture format, don't. Decoded pictures are kept in memory: 4·C·H·W bytes each, so
    10,000 pictures of 3x224x224 take 6 GB. Inputs are float32 (N, C, H, W), scaled to mean 0 and
    standard deviation 1 a channel over the train split.
    """

    name = "image-folder"
    summary = "your own pictures, one folder a class"

    def shape(self) -> Shape:
        size = self.options.size
        height, width = (size, size) if isinstance(size, int) else size
        return Shape((self.options.channels, height, width), len(self.class_names()))

    def class_names(self) -> tuple[str, ...]:
        return self._classes

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        folder = self._split_folders().get("train", self.options.root)
        names = tuple(child.name for child in _subfolders(folder))
        if len(names) < 2:
            raise DataError(
                f"task {self.name!r}: {folder} has {len(names)} subfolders; there must be one for "
                "each class, and two at least"
            )
        return names

    def read(self) -> Mapping[SplitName, Images]:
        shape = self.shape()
        return {name: decode(files, shape.input) for name, files in self._files().items()}

    def _files(self) -> dict[SplitName, Files]:
        """Pictures of each split, in its order."""
        folders = self._split_folders()
        splits: dict[SplitName, Files] = {name: self._listed(folder) for name, folder in folders.items()}
        pool = splits["train"] if folders else self._listed(self.options.root)
        shares: dict[SplitName, float] = {
            "test": self.options.test,
            "validation": self.options.validation,
        }
        carved: list[SplitName] = [name for name in shares if name not in splits]
        labels = np.array([label for _, label in pool], dtype=np.int64)
        sizes = np.bincount(labels, minlength=len(self._classes))
        if not sizes.all():
            raise DataError(
                f"task {self.name!r}: the class {self._classes[int(sizes.argmin())]!r} has no "
                f"picture to train on. Known suffixes: {', '.join(sorted(SUFFIXES))}"
            )
        counts = by_fraction(sizes, [shares[name] for name in carved])
        *parts, rest = deal(labels, counts, self.options.seed)
        for name, part in zip(carved, parts, strict=True):
            splits[name] = [pool[index] for index in part]
        splits["train"] = [pool[index] for index in rest]
        return splits

    def _split_folders(self) -> dict[SplitName, Path]:
        """Folders of the splits, where `root` is made of such; else nothing."""
        root = self.options.root
        if not root.is_dir():
            raise DataError(
                f"task {self.name!r}: there is no folder {root} (from {Path.cwd()}): correct `root`"
            )
        children = _subfolders(root)
        names = {child.name for child in children}
        # A class may be called "train", too: then it has neighbours that aren't splits.
        if "train" not in names or not names <= FOLDERS.keys() or not _subfolders(root / "train"):
            return {}
        if {"validation", "val"} <= names:
            raise DataError(f"{root} has both validation/ and val/: keep one")
        return {FOLDERS[child.name]: child for child in children}

    def _listed(self, folder: Path) -> Files:
        known = self._classes
        unknown = [child.name for child in _subfolders(folder) if child.name not in known]
        if unknown:
            raise DataError(
                f"{folder} has the class {unknown[0]!r}, which the train split has not; "
                f"that has {', '.join(known)}"
            )
        return [(path, label) for label, name in enumerate(known) for path in _pictures(folder / name)]


def _subfolders(folder: Path) -> list[Path]:
    """Folders in `folder` that aren't hidden, by name."""
    if not folder.is_dir():
        return []
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _pictures(folder: Path) -> Iterator[Path]:
    """Pictures in and below `folder`, in the order of their paths' names on any system."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    for path in sorted(found, key=lambda path: path.relative_to(folder).parts):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_file():
            yield path
