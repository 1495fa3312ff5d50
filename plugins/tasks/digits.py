"""Handwritten digits: 1,797 pictures of 8x8, which come with scikit-learn. For quick, real runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from ...core import Shape, SplitName
from ._images import Images, ImageTask
from ._splits import SplitOptions, by_fraction, deal


class Digits(ImageTask[SplitOptions]):
    """Optical recognition of handwritten digits, test part (Alpaydin and Kaynak, UCI, 1998).

    Inputs are float32 (N, 1, 8, 8), scaled to mean 0 and standard deviation 1 over the train split.
    """

    name = "digits"
    summary = "1,797 handwritten digits of 8x8 pixels, part of scikit-learn"

    def shape(self) -> Shape:
        return Shape(input=(1, 8, 8), classes=10)

    def read(self) -> Mapping[SplitName, Images]:
        from sklearn.datasets import load_digits

        data = cast(Any, load_digits())
        images = Images(data.images.astype(np.uint8)[:, np.newaxis], data.target.astype(np.int64))
        options = self.options
        counts = by_fraction(np.bincount(images.labels), [options.test, options.validation])
        test, validation, train = deal(images.labels, counts, options.seed)
        return {"train": images[train], "validation": images[validation], "test": images[test]}
