"""What the picture tasks share: 8-bit pixels in, normalised tensors and a content digest out."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from ...core import DataError, Split, SplitName, Task, canonical_json
from ...core.plugin import OptionsT
from ._splits import Indices

SPLITS: tuple[SplitName, ...] = get_args(SplitName)


@dataclass(frozen=True)
class Images:
    """Pictures as they are stored: `pixels` uint8 (N, C, H, W), `labels` int64 (N,)."""

    pixels: NDArray[np.uint8]
    labels: Indices

    def __getitem__(self, index: Indices) -> Images:
        return Images(self.pixels[index], self.labels[index])


class ImageTask(Task[OptionsT]):
    """A task of 8-bit pictures. A subclass says where they come from (`read`) and their `shape`.

    Inputs are scaled, channel by channel, so that the train split has mean 0 and standard deviation
    1 (a constant channel becomes 0). Splits are loaded at the first call and kept in memory, four
    bytes a pixel; a pickled task leaves them behind.
    """

    @abstractmethod
    def read(self) -> Mapping[SplitName, Images]:
        """Read all three splits, each in its fixed order.

        Raises:
            DataError: the data isn't there or is unusable.
        """

    def split(self, name: SplitName) -> Split:
        return self._splits[name]

    def digest(self) -> str:
        return self._digest

    @cached_property
    def _splits(self) -> dict[SplitName, Split]:
        import torch

        images = self.read()
        for name in SPLITS:
            if not len(images[name].labels):
                raise DataError(
                    f"task {self.name!r}: the {name} split is empty; there are "
                    f"{sum(len(part.labels) for part in images.values())} samples in all. "
                    "Give it a larger share, or add data"
                )
        tables = _tables(images["train"].pixels)
        return {
            name: Split(
                torch.as_tensor(_normalised(images[name].pixels, tables)),
                torch.as_tensor(np.ascontiguousarray(images[name].labels, dtype=np.int64)),
            )
            for name in SPLITS
        }

    @cached_property
    def _digest(self) -> str:
        shape = self.shape()
        content = blake2b(digest_size=16)
        header = {
            "input": shape.input,
            "classes": self.class_names(),
            "samples": [len(self._splits[name].targets) for name in SPLITS],
        }
        content.update(canonical_json(header).encode())
        for name in SPLITS:
            for tensor in self._splits[name]:
                content.update(cast(Any, tensor.numpy()))  # a buffer, which the stubs hide
        return content.hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        # Workers load for themselves: data is not for the wire.
        return {key: value for key, value in vars(self).items() if key not in {"_splits", "_digest"}}


def _tables(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Normalised value of each of the 256 pixel values, by channel: (C, 256).

    Sums are exact integers, and a square root is correctly rounded, so the bits of the result (and
    of the digest) don't depend on the machine.
    """
    tables: list[NDArray[np.floating]] = []
    for channel in range(pixels.shape[1]):
        counts: list[int] = np.bincount(pixels[:, channel].ravel(), minlength=256).tolist()
        number = sum(counts)
        total = sum(value * count for value, count in enumerate(counts))
        squares = sum(value * value * count for value, count in enumerate(counts))
        variance = (number * squares - total * total) / (number * number)
        tables.append((np.arange(256) - total / number) / (math.sqrt(variance) or 1.0))
    return np.stack(tables).astype(np.float32)


def _normalised(pixels: NDArray[np.uint8], tables: NDArray[np.float32]) -> NDArray[np.float32]:
    inputs = np.empty(pixels.shape, dtype=np.float32)
    for channel, table in enumerate(tables):
        inputs[:, channel] = table[pixels[:, channel]]
    return inputs
