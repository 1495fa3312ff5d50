"""Which samples an epoch trains on, in which order, and how their images are changed.

All of it is a function of seed, epoch and sample, never of the worker that computes it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..seeds import spawn
from .keyed import uniforms
from .options import AugmentOptions

ORDER, IMAGES = 0, 1  # branches of a trial's seed tree


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Count the batches of an epoch over `count` samples."""
    return -(-count // batch_size)


def batches(seed: int, epoch: int, count: int, batch_size: int) -> Iterator[Tensor]:
    """Yield an epoch's batches: every sample once, in the order of (seed, epoch).

    Batches are int64 (n,) of indices below `count`, with n at most `batch_size`. They are of equal
    size, give or take one, since a small last batch would spoil BatchNorm.
    """
    generator = torch.Generator().manual_seed(spawn(seed, ORDER, epoch))
    order = torch.randperm(count, generator=generator)
    yield from order.tensor_split(steps_per_epoch(count, batch_size))


def augment(images: Tensor, samples: Tensor, *, seed: int, epoch: int, options: AugmentOptions) -> Tensor:
    """Shift, mirror and cut out `images` at random, by (seed, epoch, sample).

    Args:
        images: (n, C, H, W), on any device.
        samples: int64 (n,), the images' indices in their split.
        seed: the trial's seed.
        epoch: the epoch.
        options: what is done. With none of it, `images` itself is returned.
    """
    if options == AugmentOptions():
        return images
    draws = uniforms(spawn(seed, IMAGES, epoch), samples.to(images.device), 5)
    if options.shift or options.flip:
        images = _moved(images, draws[:, :3], options)
    return _cut(images, draws[:, 3:], options.cutout) if options.cutout else images


def _moved(images: Tensor, draws: Tensor, options: AugmentOptions) -> Tensor:
    count, channels, height, width = images.shape
    rows = torch.arange(height, device=images.device).expand(count, height)
    columns = torch.arange(width, device=images.device).expand(count, width)
    if options.flip:
        columns = torch.where(draws[:, :1] < 0.5, columns.flip(1), columns)
    # In the padded image the offset runs from 0 to twice the shift; the middle is no shift.
    offsets = (draws[:, 1:] * (2 * options.shift + 1)).long()
    rows, columns = rows + offsets[:, :1], columns + offsets[:, 1:]
    padded = torch.nn.functional.pad(images, [options.shift] * 4)
    which = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[:, None, None]
    return padded[which, channel, rows[:, None, :, None], columns[:, None, None, :]]


def _cut(images: Tensor, draws: Tensor, side: int) -> Tensor:
    """Zero a square around a random pixel; it may reach over the border (Cutout, 1708.04552)."""
    height, width = images.shape[-2:]
    size = torch.tensor([height, width], device=images.device)
    first = (draws * size).long() - side // 2
    rows = torch.arange(height, device=images.device) - first[:, :1]
    columns = torch.arange(width, device=images.device) - first[:, 1:]
    inside_rows, inside_columns = (rows >= 0) & (rows < side), (columns >= 0) & (columns < side)
    inside = inside_rows[:, :, None] & inside_columns[:, None, :]
    return images.masked_fill(inside[:, None], 0.0)
