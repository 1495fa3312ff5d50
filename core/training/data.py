"""Which samples an epoch trains on, in which order, and how their images are changed.

All of it is a function of seed, epoch and sample, never of the worker that computes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from ..seeds import spawn
from .keyed import uniforms
from .options import AugmentOptions

ORDER, IMAGES, PARTNERS = 0, 1, 5  # branches of a trial's seed tree
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in grey (ITU-R BT.601)


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


def levels(images: Tensor) -> Tensor:
    """The least and the greatest value of each channel of (n, C, H, W): black and white, (2, C).

    A task scales its pixels as it likes; a whole split has them from one end to the other.
    """
    return torch.stack([images.amin((0, 2, 3)), images.amax((0, 2, 3))])


def augment(
    images: Tensor,
    samples: Tensor,
    *,
    seed: int,
    epoch: int,
    options: AugmentOptions,
    levels: Tensor | None = None,
) -> Tensor:
    """Change `images` at random, by (seed, epoch, sample), as training recipes do.

    In this order: crop and scale, colours, mirror and shift, cut out.

    Args:
        images: (n, C, H, W), on any device.
        samples: int64 (n,), the images' indices in their split.
        seed: the trial's seed.
        epoch: the epoch.
        options: what is done. With none of it, `images` itself is returned.
        levels: what `levels` gives for the split, where colours change.
    """
    if options == AugmentOptions():
        return images
    draws = uniforms(spawn(seed, IMAGES, epoch), samples.to(images.device), 11)
    if options.crop is not None:
        images = _cropped(images, draws[:, 5:9], options.crop)
    if options.recolours:
        assert levels is not None
        images = _coloured(images, draws[:, 9:], options, levels)
    if options.shift or options.flip:
        images = _moved(images, draws[:, :3], options)
    return _cut(images, draws[:, 3:5], options.cutout) if options.cutout else images


def mixed(samples: Tensor, count: int, *, seed: int, epoch: int, alpha: float) -> tuple[Tensor, Tensor]:
    """Draw whom each sample is mixed with, of `count`, and its own share, from Beta(alpha, alpha).

    By (seed, epoch, sample), so that whoever computes a sample mixes it alike (mixup, 1710.09412).

    Returns:
        int64 (n,) and float32 (n,).
    """
    from scipy.special import betaincinv

    draws = uniforms(spawn(seed, PARTNERS, epoch), samples, 2).double()
    shares = betaincinv(alpha, alpha, draws[:, 1].cpu().numpy())
    return (draws[:, 0] * count).long(), torch.as_tensor(shares, dtype=torch.float32, device=samples.device)


def _cropped(images: Tensor, draws: Tensor, shares: tuple[float, float]) -> Tensor:
    """Scale a random part of each image to the whole, bilinearly (Inception crops, 1409.4842).

    A side that would be longer than the image's is cut to it.
    """
    height, width = images.shape[-2:]
    drawn = draws.double()  # so that rounding doesn't depend on how functions are computed
    area = shares[0] + (shares[1] - shares[0]) * drawn[:, 0]
    aspect = ((2 * drawn[:, 1] - 1) * math.log(4 / 3)).exp()
    places: list[Tensor] = []
    for side, other, ratio, draw in ((width, height, aspect, 2), (height, width, 1 / aspect, 3)):
        length = (area * ratio * other / side).sqrt().clamp(max=1)[:, None]
        start = drawn[:, draw, None] * (1 - length)
        centres = (torch.arange(side, device=images.device) + 0.5) / side
        places.append(2 * (start + length * centres) - 1)
    grid = [places[0][:, None, :].expand(-1, height, -1), places[1][:, :, None].expand(-1, -1, width)]
    return functional.grid_sample(
        images, torch.stack(grid, -1).to(images.dtype), padding_mode="border", align_corners=False
    )


def _coloured(images: Tensor, draws: Tensor, options: AugmentOptions, levels: Tensor) -> Tensor:
    """Change brightness and saturation; the latter of three channels (red, green, blue) alone."""
    black, white = levels.to(images)[:, None, :, None, None]
    span = torch.where(white > black, white - black, 1.0)
    bright, vivid = (2 * draws - 1).T[:, :, None, None, None]
    pixels = ((images - black) / span * (1 + options.brightness * bright)).clamp(0, 1)
    if images.shape[1] == len(LUMA):
        grey = sum(weight * pixels[:, [channel]] for channel, weight in enumerate(LUMA))
        pixels = (grey + (pixels - grey) * (1 + options.saturation * vivid)).clamp(0, 1)
    return pixels * span + black


def _moved(images: Tensor, draws: Tensor, options: AugmentOptions) -> Tensor:
    count, channels, height, width = images.shape
    rows = torch.arange(height, device=images.device).expand(count, height)
    columns = torch.arange(width, device=images.device).expand(count, width)
    if options.flip:
        columns = torch.where(draws[:, :1] < 0.5, columns.flip(1), columns)
    # In the padded image the offset runs from 0 to twice the shift; the middle is no shift.
    offsets = (draws[:, 1:] * (2 * options.shift + 1)).long()
    rows, columns = rows + offsets[:, :1], columns + offsets[:, 1:]
    padded = functional.pad(images, [options.shift] * 4)
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
