"""Decodes picture files with Pillow into arrays of one size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...core import DataError
from ._images import Images

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

EIGHT_BITS = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV"})
"""Pillow's modes that convert to 8-bit grey or colour without being clipped."""


def decode(files: Sequence[tuple[Path, int]], shape: tuple[int, ...]) -> Images:
    """Decode labelled pictures, scaled (bilinear, with antialiasing) to `shape`, (C, H, W).

    Pictures are turned as their EXIF orientation says; of a moving one the first frame counts;
    transparency is dropped.

    Raises:
        DataError: a file can't be decoded, or has more than 8 bits a channel.
    """
    pixels = np.empty((len(files), *shape), dtype=np.uint8)
    for index, (path, _) in enumerate(files):
        pixels[index] = _decoded(path, shape)
    return Images(pixels, np.array([label for _, label in files], dtype=np.int64))


def _decoded(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    channels, height, width = shape
    try:
        with Image.open(path) as opened:
            mode = opened.mode
            if mode in EIGHT_BITS:
                upright = ImageOps.exif_transpose(opened)
                if mode == "P":  # Pillow warns where a palette's transparency is dropped at once
                    upright = upright.convert("RGBA")
                upright = upright.convert("L" if channels == 1 else "RGB")
                scaled = np.asarray(upright.resize((width, height), Image.Resampling.BILINEAR))
                return scaled.reshape(height, width, channels).transpose(2, 0, 1)
    except Exception as error:  # each of Pillow's decoders fails in a way of its own
        raise DataError(
            f"can't read the picture {path}: {error}. Replace the file, or take it away"
        ) from error
    raise DataError(f"the picture {path} has more than 8 bits a channel (mode {mode}): convert it to 8 bits")
